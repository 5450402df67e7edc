"""Pictures as SVG text, one file a subject, in one style.

Lines differ in dash and marks in shape, not in hue alone. Imports `runs` and the tasks; the
report, the search and the commands import it.
"""
