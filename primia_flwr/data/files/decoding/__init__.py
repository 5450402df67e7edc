"""From the bytes of one image to grey levels; nothing here knows of data sets.

`stream` finds a DICOM file's elements, `header` reads them, `claims` checks what they say of the
pixels, `stored` and `compressed` bring the stored values, `grey` and `colour` show them. `workers`
keeps the processes in which compressed images are decoded, `worker` is one of them. `deep` is for
PNG and TIFF of more than 8 bits.
"""
