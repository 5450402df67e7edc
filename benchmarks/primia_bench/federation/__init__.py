"""A federation's life by the commands of the guides: three hospitals, one more, one less.

`python -m primia_bench.federation.life` does it with real processes in folders of their own.
"""
