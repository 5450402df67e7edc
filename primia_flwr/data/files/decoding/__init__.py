"""From the bytes of one image to grey levels; nothing here knows of data sets.

`stream` finds a DICOM file's elements in its `sources`, `header` reads them, `claims` checks them,
`stored` and `compressed` bring the values, `grey` and `colour` show them; `workers` keeps the
processes for compressed ones; `deep` is for PNG and TIFF of more than 8 bits. `files` imports it.
"""
