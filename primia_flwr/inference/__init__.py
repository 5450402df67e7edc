"""Encrypted inference: an image is classified that the model owner never sees.

`lowering` makes a network steps in fixed point, `preprocessing` deals their randomness, `protocol`
computes on shares, `service` are the parties, `transport` their lines; `crypten` is the
reference. Imports models, the configuration and `primitives`; `cli/inference` imports it.
"""
