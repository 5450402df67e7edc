"""What classification consists of: its loss, its scores, and readers on a panel.

Only here and in `classification` does anybody speak of classes. Imports `statistics` and what
tables and pictures look like; `classification` alone imports it.
"""

CONFUSION = "confusion"
"""Name of the counts that travel: true class by predicted class, row by row."""

SET_SCORES = "set-scores"
"""Name of the counts that sets of classes are made from: bins of each class after the other."""
