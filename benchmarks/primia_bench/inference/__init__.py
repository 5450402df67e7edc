"""Encrypted inference, measured: agreement, memory, floods, watching, single layers.

`latency` is a room of its own. CrypTen as shipped is the yardstick (`crypten_stock`).
Imports `inference`, `models` and `trials` of the product.
"""
