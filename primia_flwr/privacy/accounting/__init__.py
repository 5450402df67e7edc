"""The cost of releases: events and their epsilon, plans before a run, the filter between runs.

The only door to dp-accounting; needs no torch. Imports the configuration; every other room of
`privacy` and the pipeline may import it.
"""
