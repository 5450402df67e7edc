"""Statistics of a classifier: metrics, intervals, calibration."""
