"""What a round costs beside its training: where the time goes, beside Flower's own, as work grows.

`python -m primia_bench.rounds.<name>`; the runs are real ones, with as little training as can be.
"""
