"""Radiographs that are drawn by formula, for demonstrations and tests; they are of no patient.

`radiograph` draws chest and pneumonia, `findings` several findings an image. Imports `reading`;
`data.layouts.synthetic` imports it.
"""
