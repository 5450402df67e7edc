"""Parts of `benchmarks.secagg_protocol`: the pure protocol, all parties in one process."""
