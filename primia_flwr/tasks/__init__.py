"""Tasks: what a label is, and everything that follows from it.

One file is one task: its loss, the sums that travel, the metrics computed from sums, and its
chapter in the report. Classification is the first; only files of this folder know of classes.
Whatever trains, aggregates, searches or reports asks the task of the experiment.
May be imported by every room above the configuration.
"""
