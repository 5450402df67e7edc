"""The rounds of a run: who takes part, ask, aggregate, validate, stop, keep the best.

Knows aggregators by their seam only, and no rule by name. Imports `strategies.aggregators` and
the library; the registry and the search import it.
"""
