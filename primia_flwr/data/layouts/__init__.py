"""The layouts in which image folders come, one a file; a layout lists and decodes nothing.

`readers` finds the one that an experiment names. Imports manifest and files of `data`;
`data.dataset` and the commands on data import it.
"""
