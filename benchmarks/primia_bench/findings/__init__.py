"""Several findings an image measured: the area of each, secure federated and pooled.

Synthetic radiographs; every arm is a run of the command line. Imports the product, and nothing
imports it.
"""
