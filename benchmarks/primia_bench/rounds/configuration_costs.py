"""What a configuration costs a message: read as here, and by OmegaConf alone.

Every message to a site carries the experiment as YAML. The gate reads it, the app reads it again
and checks it. Processor milliseconds, medians of repeats, both ways in one process.

    python -m primia_bench.rounds.configuration_costs --output results/configuration_costs.json
"""

import argparse
import statistics
import time
from collections.abc import Callable

from omegaconf import OmegaConf

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, load_experiment, to_yaml
from primia_flwr.config.plain_yaml import load_mapping

REPEATS = 15


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median of some calls, the first left out."""
    work()
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        found.append(1e3 * (time.process_time() - began))
    return round(statistics.median(found), 2)


def by_omegaconf(text: str) -> Experiment:
    """Read and check an experiment with nothing but OmegaConf."""
    merged = OmegaConf.merge(OmegaConf.structured(Experiment), OmegaConf.create(text))
    experiment = OmegaConf.to_object(merged)
    assert isinstance(experiment, Experiment)
    return experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    given = parser.parse_args()
    experiment = compose_experiment(["experiment=pneumonia"])
    text = to_yaml(experiment)
    assert load_experiment(text) == by_omegaconf(text) == experiment
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "read": (
            lambda: load_mapping(text, what="the experiment"),
            lambda: OmegaConf.to_container(OmegaConf.create(text)),
        ),
        "read and checked": (lambda: load_experiment(text), lambda: by_omegaconf(text)),
    }
    rows = {}
    for name, (here, omegaconf) in pairs.items():
        one, other = milliseconds(here), milliseconds(omegaconf)
        rows[name] = {"here": one, "omegaconf": other, "omegaconf/here": round(other / one, 1)}
    result = {"benchmark": "configuration_costs", "characters": len(text), "milliseconds": rows}
    publish({**result, "machine": describe_machine()}, given.output)


if __name__ == "__main__":
    main()
