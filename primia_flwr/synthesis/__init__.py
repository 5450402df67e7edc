"""Labelled synthetic images: a conditional generator that sees patients through noise alone.

`config` says what to train, `networks` has the two nets, `adversarial` trains them, `release` pays
the ledger, `folder` writes. Imports training, privacy and data; `cli/data` imports it.
"""
