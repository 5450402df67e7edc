"""Comparison of several readers of the same images, models and people.

`figures` are each reader's, `pairs` the differences, `subgroups` and `operating_points` the rest;
`compare` puts them together. Imports `statistics` and the room above, which alone
imports it.
"""
