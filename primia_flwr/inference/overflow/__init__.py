"""The check that no compared number left its ring: which limits, and how both parties see it.

Imports arithmetic and lowering of `inference`; preprocessing, protocol and service import
it.
"""
