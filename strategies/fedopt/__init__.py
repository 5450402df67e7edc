"""Rules that take the mean update for a gradient, and optimise on the server (Reddi et al. 2021).

One file is one rule, as in `strategies`; `primia_flwr.config.rows` finds them in both. They need
the mean only, so they work with secure aggregation; their moments go into the checkpoint.
"""
