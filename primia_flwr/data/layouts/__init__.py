"""The layouts in which image folders come, one a file; a layout decodes nothing.

`data.reading.any_layout` finds the one that an experiment names. Imports `reading`, `drawing`,
manifest and files of `data`; nothing imports a layout by its module but another layout.
"""
