"""Parts of a model: what is trained, what is shared, and sets of classes, on three scanners.

`scanners` draws the sites' images, `federated` trains by the command line and scores by site; each
other module is one measurement. Nothing of the product imports it.
"""
