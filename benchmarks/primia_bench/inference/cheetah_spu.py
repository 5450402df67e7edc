# mypy: disable-error-code="import-not-found"
"""ReLU and a convolution without a dealer: Cheetah, as SPU has it. Run by `without_dealer`.

In an environment of its own, with `spu` and its `jax`; imports nothing of this project. Both
parties are threads of this process, so the processor's time is that of both together.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu
import spu.utils.simulation as simulation

FRACTION_BITS = 13


def measured(name: str, way: Callable[..., Any], *inputs: Any) -> dict[str, Any]:
    """Run a function on shares, once; its bytes are in the log that `without_dealer` reads."""
    config = spu.RuntimeConfig(
        protocol=spu.ProtocolKind.CHEETAH,
        field=spu.FieldType.FM64,
        fxp_fraction_bits=FRACTION_BITS,
    )
    config.enable_pphlo_profile = True
    simulator = simulation.Simulator(2, config)
    started, processor = time.perf_counter(), time.process_time()
    found = simulation.sim_jax(simulator, way)(*inputs)
    row = {
        "what": name,
        "numbers": int(np.size(found)),
        "seconds": round(time.perf_counter() - started, 3),
        "processor_seconds_of_both": round(time.process_time() - processor, 3),
        "largest_error": float(np.abs(found - np.asarray(way(*inputs))).max()),
    }
    print(f"ROW {json.dumps(row)}", flush=True)
    return row


def convolution(image: Any, weight: Any) -> Any:
    """Return a 3 x 3 convolution, as in a ResNet-18's first stage at 64 x 64."""
    sides = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(image, weight, (1, 1), "SAME", dimension_numbers=sides)


def main() -> None:
    """Measure as many ReLUs as the command names, and one convolution of 16 x 16 x 64 numbers."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(int(sys.argv[1])).astype(np.float32)
    measured("relu", lambda value: jnp.maximum(value, 0), numbers)
    image = rng.standard_normal((1, 16, 16, 64)).astype(np.float32)
    weight = (rng.standard_normal((3, 3, 64, 64)) / 24).astype(np.float32)
    measured("convolution", convolution, image, weight)


if __name__ == "__main__":
    main()
