"""A crafted model that isolates one image in the sum over all sites.

`model` makes it, `unmasked_sum` lets the sites train on it, `runner` inverts what comes out.
Imports the inversion, training and models; `cli/analysis` imports it.
"""
