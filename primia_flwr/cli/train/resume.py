"""`primia train resume=<folder>`: a run goes on, also for more rounds than it was begun with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, config_hash, to_yaml
from primia_flwr.config.stored import read_config
from primia_flwr.errors import ConfigError

_ROUNDS = "federation.rounds="


def longer(words: Sequence[str]) -> list[str]:
    """Return the words of a run; beside `resume=`, `federation.rounds=` as `resume_rounds=`."""
    if not any(word.startswith("resume=") and word != "resume=" for word in words):
        return list(words)
    return [
        f"resume_rounds={word.removeprefix(_ROUNDS)}"
        if word.startswith(_ROUNDS) and word != f"{_ROUNDS}0"  # which no run may have
        else word
        for word in words
    ]


def resumed(asked: Experiment) -> Experiment:
    """Return the experiment of the folder in `resume`, which goes on where it stopped.

    The folder's own configuration counts, so nothing but more rounds may be given.

    Raises
    ------
    ConfigError
        If the folder holds no run, other keys are given, or the run cannot have so many rounds.
    CheckpointError
        If its sites would get other images than before.
    """
    folder = Path(asked.resume)
    plain = compose_experiment()
    own = {key: getattr(plain, key) for key in ("resume", "resume_rounds", "quiet", "dry_run")}
    if replace(asked, **own) != plain:
        raise ConfigError(
            f"resume={folder} goes on with its own configuration; expected no other keys but "
            "federation.rounds, quiet and dry_run; start a new run to change them"
        )
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(
            f"resume={folder}; expected the output folder of a run (with a config.yaml), e.g. "
            "resume=outputs/2026-11-21/12-00-00-demo"
        )
    from primia_flwr.pipeline.dealt import check_dealt  # heavy

    before = read_config(path)
    check_dealt(folder, before)
    before.output_dir, before.resume = str(folder), str(folder)
    before.quiet, before.dry_run = asked.quiet, asked.dry_run
    if asked.resume_rounds:
        _check_longer(before, asked.resume_rounds)
        before.federation = replace(before.federation, rounds=asked.resume_rounds)
    return before


def lengthen(experiment: Experiment) -> None:
    """Make the last checkpoint of a run one of the same run with more rounds.

    Asked again after a crash, it goes on where it was.

    Raises
    ------
    CheckpointError
        If none is intact, or it belongs to another experiment.
    """
    from primia_flwr.runs.checkpoint import adopt
    from primia_flwr.storage.atomic import write_result

    folder = Path(experiment.output_dir)
    before = config_hash(read_config(folder / "config.yaml"))
    after = config_hash(experiment)
    if before != after:
        adopt(folder / "checkpoints", before=before, after=after, stopped="")
        write_result(folder / "config.yaml", to_yaml(replace(experiment, resume="")))


def _check_longer(before: Experiment, rounds: int) -> None:
    asked = f"federation.rounds={rounds} with resume={before.resume}"
    if rounds < before.federation.rounds:
        raise ConfigError(
            f"{asked}; expected at least the {before.federation.rounds} rounds of that run; "
            "start a new run for fewer"
        )
    parts = (before.privacy, before.search, before.aggregation)
    bound = next((part.bound_to_its_rounds for part in parts if part.bound_to_its_rounds), "")
    if bound and rounds > before.federation.rounds:
        raise ConfigError(f"{asked}; expected {before.federation.rounds}: {bound}")
