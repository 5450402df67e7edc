"""The relay: the model goes from site to site, and where it is survives a crash.

Imports the plain aggregator, and `primia_flwr.secagg` where models are sealed.
"""
