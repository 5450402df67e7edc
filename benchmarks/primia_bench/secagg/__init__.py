"""Parts of `primia_bench.secagg.protocol`: the pure protocol, all parties in one process."""
