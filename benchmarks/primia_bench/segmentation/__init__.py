"""Segmentation measured: Dice of secure federated, pooled, local and private training.

Synthetic radiographs; every arm is a run of the command line. Imports the product, and nothing
imports it.
"""
