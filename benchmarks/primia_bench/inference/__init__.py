"""Latency, memory and robustness of encrypted inference."""
