"""The aggregator that learns sums over sites, and nothing of a single one.

`sums` learns one sum after the other: `secagg_round` is the conversation of one, `plausibility`
judges what it opens. Imports the protocol of `primia_flwr.secagg` and the room above; only the
registry imports it.
"""
