"""Encrypted inference over lines of several delays and rates: `python -m primia_bench.inference.latency`."""
