"""Attacks, measured: inversion, membership inference, crafted models.

Also how far training moves what an arriving model may hold (`norm_ranges`). Most need the
radiographs. Imports `attacks`, `training` and `runs` of the product.
"""
