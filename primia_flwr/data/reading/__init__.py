"""What reads an image folder whatever its layout is: root, tables, labels, what is left aside.

`any_layout` asks the layout that an experiment names. Imports manifest and files of `data`;
`data.layouts`, `data.dataset` and the commands on data import it.
"""
