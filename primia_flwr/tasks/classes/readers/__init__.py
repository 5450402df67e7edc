"""Comparison of several readers of the same images."""
