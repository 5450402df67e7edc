"""`primia runs`: which runs there are, stop one, read what it says.

One module a verb. Imports the pipeline; `cli/main` finds the verbs by name.
"""
