"""Asynchronous rounds: each takes the updates that are ready; slow sites are still at work.

Imports the fixed-point aggregator.
"""
