"""Parts of `benchmarks.dp_audit`: attacks on the private mechanisms, and what they are held to."""
