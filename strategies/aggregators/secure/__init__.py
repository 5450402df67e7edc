"""The aggregator that learns sums over sites, and nothing of a single one.

`secagg_round` is the conversation of one sum, `plausibility` judges the opened sum. Imports the
protocol of `primia_flwr.secagg` and the room above; only the registry imports it.
"""
