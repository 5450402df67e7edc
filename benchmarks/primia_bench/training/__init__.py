"""Training, measured: throughput, rounds, search, intervals, and the case studies.

`table_one` and `pneumonia` need the radiographs; `same_figures` says whether two checkouts train
the same models. Imports `training`, `statistics` and `runs` of the product.
"""
