"""The parties of the service: model owner, data owner and crypto provider.

`negotiation` is how they agree, `query_log` and `extraction` what a data owner may ask, `watch`
stays. The top of `inference`: may import every room of it; `cli/inference` imports it.
"""
