"""Flower's own programs, started and watched: SuperLink, SuperNodes, simulation, bundle.

`launcher` runs an experiment on any of them; `roster_grid` asks only the sites of the roster.
Imports `processes` and the configuration; the pipeline, the trials and `strategies` import it.
"""
