"""Keys, certificates and kits of a federation and of an inference service."""
