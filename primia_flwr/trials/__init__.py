"""Whole federations and services on one machine, with everything that real ones have.

Real processes, real certificates, loopback lines. Imports `provisioning`, `flower` and the
pipeline; `federation trial`, `inference trial` and the tests import it.
"""
