"""Tasks: what a label is, and everything that follows from it; one file is one task.

It owns the loss, the sums that travel, the metrics computed from sums, and its chapter in the
report. Only files of this room know of classes; whatever trains, aggregates, searches or reports
asks the task of the experiment. Every room above the configuration and `statistics` may import it.
"""
