"""Data: from files to labelled images, split by patient, with their statistics.

files → `readers` (layouts → manifest) → `partition` (splits, sites) → `images`, `store`
(decoded once, cached) → `dataset` (one site's images) → `transforms`, `statistics`.
"""
