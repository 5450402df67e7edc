"""Seconds of one encrypted classification over lines of several delays and rates.

`cells` says which lines, `parties` and `crypten_parties` are the processes, `measure` runs one
cell, `table` and `plot` show them. Imports `inference`, `provisioning` and `models`.
"""
