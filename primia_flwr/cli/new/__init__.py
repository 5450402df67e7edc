"""`primia new strategy|model|task|layout`: a small working file of one's own.

Each command writes the file with its row, the YAML beside it, and a test, into a folder that
`--plugins` takes into any command. `write.py` does it; `templates/` holds the texts.
May be imported by nothing but `cli/main.py`.
"""
