"""The messages of one secure sum, at the client and at the server."""
