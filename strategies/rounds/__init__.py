"""The rounds of a run: who takes part, ask, aggregate, validate, stop, keep the best.

`steps` takes one round, `loop` a run of them, `record` writes down. Knows aggregators by their seam
only, and no rule by name. Imports `strategies.aggregators`; the registry and the search import it.
"""
