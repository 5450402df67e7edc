"""What classification consists of: its loss, its scores, and readers on a panel.

Only here and in `classification` does anybody speak of classes. Imports `statistics`; the task,
reporting and `cli/analysis` import it.
"""
