"""Grad-CAM maps of single cases: which images are shown, and where the model looked.

The only door to captum. Imports the configuration and `statistics`; the pipeline and the pictures
of a report import it.
"""
