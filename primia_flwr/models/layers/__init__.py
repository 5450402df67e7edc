"""Layers and networks that the architectures share, with what encrypted inference knows of them.

Imports the configuration and the row of an architecture; the architectures, the lowering and the
clipping engines import it.
"""
