"""Attacks that test the protection, on recorded runs and simulations of one's own.

`inversion` rebuilds images from updates, `crafted` from sums over a crafted model, `membership`
tells who was in the training. May import every room below the command line; only
`cli/analysis` imports it: the product does not depend on its attacks.
"""
