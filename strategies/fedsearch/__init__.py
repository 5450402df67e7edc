"""Federated search inside one run: many configurations, and after every rung the best go on.

`loop` runs the rungs, a `trial` has rounds and weights of its own, `record` is `search.json`.
Imports `strategies.rounds`; only the registry imports it.
"""
