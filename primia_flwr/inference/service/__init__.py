"""The parties of the service: model owner, data owner and crypto provider."""
