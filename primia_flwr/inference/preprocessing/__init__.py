"""Correlated randomness: dealt by the provider, fetched ahead, kept sealed until it is used.

`dealing` makes it, `prefetch` fetches, `store` keeps, `prepared` hands one batch out. Imports
arithmetic, fss, overflow and transport of `inference`; protocol and service import it.
"""
