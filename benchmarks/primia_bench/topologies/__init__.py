"""How sites work together, measured: parts of updates, sites that fail.

`digits` writes small images that every machine has; each other file is one measurement.
"""
