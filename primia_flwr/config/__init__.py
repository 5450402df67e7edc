"""Configuration: dataclasses that check themselves, and the functions that load them.

`experiment` is what a federation agrees on, `search` what a search may change, `inference` the
keys of encrypted inference; `load` composes `conf/`, `parsing` turns text into dataclasses.
Imports `storage`, `extras` and errors only; every room above imports it.
"""
