"""Do encrypted and plain predictions agree? A trained model on its own test images.

Runs `primia inference trial` (three processes over TLS on this machine), or reads a finished one,
and writes how many images got the same class, the margin of those that did not, and how far the
scores are apart. No image and no file name of the data is written: the trial names images by
number.

    python -m primia_bench.inference.agreement --model outputs/a --images 1000 --output results.json
    python -m primia_bench.inference.agreement --model outputs/a --trial outputs/a/inference/...

Seconds are of a machine on which all three parties share the cores, and the randomness of later
images is fetched meanwhile unless prefetch= covers all; see benchmarks/inference for times.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.runs.metadata import read_json

LEAST_AGREEMENT = 0.999
MAX_ERROR = 0.02


def run_trial(model: Path, images: int, overrides: list[str]) -> Path:
    """Run the trial in a temporary folder and return it."""
    folder = Path(tempfile.mkdtemp(prefix="primia-agreement-")) / "trial"
    command = [sys.executable, "-m", "primia_flwr.cli.main", "inference", "trial"]
    words = [f"model={model}", f"images={images}", f"output={folder}", *overrides]
    done = subprocess.run([*command, *words], check=False)
    if done.returncode not in (0, 1):  # 1: some images have no diagnosis, which the figures tell
        raise SystemExit(f"primia inference trial ended with exit code {done.returncode}")
    return folder


def summarise(model: Path, trial: Path) -> dict[str, Any]:
    """Return the figures of a finished trial."""
    compared, facts = read_json(trial / "comparison.json"), read_json(trial / "predictions.json")
    card = read_json(model / "model.json")
    agreement, error = compared["agreement"], compared["largest_logit_error"]
    return {
        "benchmark": "inference_agreement",
        "model": {
            **{key: card["model"][key] for key in ("name", "norm", "pool")},
            **{key: card[key] for key in ("image_size", "channels", "synthetic")},
        },
        "images": compared["images"],
        "agreement": {
            "value": agreement,
            "bound": LEAST_AGREEMENT,
            "holds": agreement >= LEAST_AGREEMENT,
        },
        "disagreements": [
            {"margin": row["margin"], "encrypted": row["encrypted"]}
            for row in compared["disagreements"]
        ],
        "largest_logit_error": {"value": error, "bound": MAX_ERROR, "holds": error <= MAX_ERROR},
        "one_way_delays": facts["rounds"],
        "bytes_sent_per_image": facts["bytes_sent"] // facts["images"],
        "bytes_received_per_image": facts["bytes_received"] // facts["images"],
        "online_seconds": {
            "median": statistics.median(row["seconds"] for row in facts["predictions"]),
            "largest": max(row["seconds"] for row in facts["predictions"]),
        },
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--images", type=int, default=1000, help="of its own test images")
    parser.add_argument("--trial", type=Path, help="output folder of a finished trial")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("overrides", nargs="*", help="e.g. prefetch=2")
    arguments = parser.parse_args()
    trial = arguments.trial or run_trial(arguments.model, arguments.images, arguments.overrides)
    publish(summarise(arguments.model, trial), arguments.output)


if __name__ == "__main__":
    main()
