"""CrypTen 0.4.1 as shipped, over gloo on bare loopback."""

import argparse
import resource
import sys
from typing import Any

from primia_bench.inference import crypten_stock


def measure(model: str, size: int, threads: int) -> dict[str, Any]:
    """Return the figures of one image size; call it in a process that has had no children yet.

    The largest child is the larger party, or what shares the results, which is small.
    """
    settings = argparse.Namespace(model=model, size=size, repeats=3, threads=threads)
    found = crypten_stock.measure(crypten_stock.SHIPPED, settings)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    in_bytes = largest if sys.platform == "darwin" else largest << 10
    memory = round(in_bytes / 1e9, 3)
    return {"size": size, **found, "peak_memory_gb": memory, "threads": threads, "model": model}
