"""Differential privacy, measured: its cost, its utility, its accountant.

`audit` attacks the mechanisms and is a room of its own. Imports `privacy`, `training` and
`runs` of the product.
"""
