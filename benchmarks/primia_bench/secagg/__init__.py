"""Secure aggregation, measured: the pure protocol, and rounds of whole federations.

`protocol` collects the figures of `exactness`, `growth`, `dropouts` and `costs`, all parties in
one process; `federation_rounds` compares with Flower's own. Imports `secagg` and the commands
of the product.
"""
