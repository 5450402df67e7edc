"""Intervals, areas, agreement, calibration: figures of arrays, which know of no task."""
