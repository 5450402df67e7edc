"""The aggregator of buffered rounds: each is one secure sum over the updates that are ready.

`choice` says over which sites. Imports the secure aggregator, and of the asynchronous one how sites
are sent models; only the registry imports it.
"""
