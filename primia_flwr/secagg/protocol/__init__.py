"""The messages of one secure sum, at the client and at the server.

`client` and `server` are the two sides, `wire` their bytes, `client_checks` and `sparse_checks`
what a client insists on. Imports payload, state and `primitives`; messages and both apps import
it.
"""
