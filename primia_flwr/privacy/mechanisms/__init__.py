"""The noisy releases: a DP-SGD step, a shared step, an aggregate, statistics; and their noise.

Noise comes from a cryptographic source. Imports accounting and clipping; training, the site's
app and the ledger import it.
"""
