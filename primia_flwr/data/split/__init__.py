"""Splits into training, validation and test, and partitions over sites, by patient.

A patient's images are never in two parts. Imports the manifest of `data`; `data.dataset`
imports it.
"""
