"""Intervals, areas under curves, agreement, calibration: figures of arrays, one method a file.

Knows no task, no file and no model. Imports errors alone; tasks, runs, reporting and evaluation
import it.
"""
