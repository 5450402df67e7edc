"""Rules that hold against a few sites that lie.

One file is one rule, as in `strategies`; `primia_flwr.config.rows` finds them in both. Each
is fed every site's update, so none works with secure aggregation.
"""
