"""Layers and networks that the architectures share, with what encrypted inference knows of them.

Imports the configuration only; the architectures, the lowering and the clipping engines import
it.
"""
