"""Files of a finished run, of its report, of its attacks, and of a search."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from primia_flwr.attacks.inversion.inversion import Reconstruction
from primia_flwr.attacks.inversion.runner import AttackRunner, Finished, Job, _digest_of
from primia_flwr.cli.train import multirun
from primia_flwr.cli.train.live import _read_json as read_live
from primia_flwr.cli.train.many_words import resumed_words
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment, to_yaml
from primia_flwr.config.search.space import parse_space
from primia_flwr.config.search.sweep import COMMAND_FILE, SweepConfig, searched_space
from primia_flwr.config.stored import read_config
from primia_flwr.config.typed import typed
from primia_flwr.evaluation.explain.cases import (
    ExplainedCase,
    Explanation,
    read_cases,
    write_cases,
)
from primia_flwr.flower.submitted import Submitted
from primia_flwr.pipeline.dealt import check_dealt
from primia_flwr.pipeline.earlier_sums import check_earlier_sums
from primia_flwr.pipeline.known_runs import find_runs, known_run
from primia_flwr.reporting.chapters.search import overrides, ranked, read_search
from primia_flwr.runs.cross_site import CrossSite, ModelRow, read_matrix, write_matrix
from primia_flwr.runs.evidence import write_evidence
from primia_flwr.runs.folder import plain_values, read_run_folder
from primia_flwr.runs.received import MODEL, path_of, read_received, trained_from
from primia_flwr.runs.recording import Recording
from primia_flwr.runs.secure_sums import SumRow, read_sum_file, totals
from primia_flwr.runs.sum_log import SumLog
from primia_flwr.runs.track import record_of
from primia_flwr.runs.tracking import _identity
from primia_flwr.search.study import STUDY_FILE, open_study
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.classes.readers.experts import read_experts
from primia_flwr.tasks.image_csv import read_groups
from tests import class_predictions
from tests.fuzz.loaders.target import Made, choice, put, target
from tests.reporting.run_folder_maker import cell, make_run_folder

FILES = ["run.json", "metrics.json", "history.csv", "sites.csv", "predictions.csv", "config.yaml"]


@target("first models of a federation")
def first_models(folder: Path) -> Made:
    found = compose_experiment()
    place = replace(
        found.deployment,
        kind="deployment",
        superlink="127.0.0.1:9",
        root_certificates="ca.crt",
        roster=str(folder / "roster.yaml"),
    )
    experiment, file = replace(found, deployment=place), folder / "first-models.json"
    check_earlier_sums(experiment, folder / "one", "ab" * 32)
    seeds = [file.read_bytes()]

    def load(raw: bytes) -> None:
        put(file, raw)
        check_earlier_sums(experiment, folder / "two", "ab" * 32)

    return Made(load, seeds)


@target("how a run was dealt")
def dealt(folder: Path) -> Made:
    found = compose_experiment(["federation.sites=[c,b,a]"])
    seeds = [b'{"dealt": "by name", "threads": 2}']

    def load(raw: bytes) -> None:
        put(folder / "run.json", raw)
        check_dealt(folder, found)

    return Made(load, seeds)


@target("known run")
def known_run_folder(folder: Path) -> Made:
    """Any one file of a run's folder garbled: the run is listed, or passed over."""
    run = folder / "outputs" / "a"
    (run / "flower").mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(compose_experiment()))
    write_result(run / "run.json", {"name": "demo", "status": "running", "started": "2026-11-21"})
    Submitted.by_this_process(7).write(run / "flower")
    names = ["config.yaml", "run.json", "flower/submitted.json"]
    honest = {name: (run / name).read_bytes() for name in names}

    def load(raw: bytes) -> None:
        for name, content in honest.items():
            put(run / name, content)
        index, rest = choice(raw, len(names))
        put(run / names[index], rest)
        find_runs(folder / "outputs")
        known_run(run)

    return Made(load, [bytes([at]) + honest[name] for at, name in enumerate(names)])


@target("words of a sweep")
def swept(folder: Path) -> Made:
    file = folder / multirun.COMMAND_FILE
    seed = b"hydra:\n  overrides:\n    task:\n    - experiment=demo\n    - seed=1,2\n"

    def load(raw: bytes) -> None:
        put(file, raw)
        assert multirun.words_of(folder)[-1].startswith("hydra.sweep.dir=")

    return Made(load, [seed])


@target("command of a search")
def search_command(folder: Path) -> Made:
    """The words that began a search, which one that goes on adds to."""
    file = folder / COMMAND_FILE
    words = [f"sweep.resume={folder}", "sweep.trials=9"]

    def load(raw: bytes) -> None:
        put(file, raw)
        typed(resumed_words(words), Experiment, sweep=True)

    return Made(load, [b'{"overrides": ["sweep=demo", "seed=2", "name=\xc3\xa4 b"]}'])


@target("run folder")
def run_folder(folder: Path) -> Made:
    """Any one file of it garbled; the first byte of an input says which."""
    path = make_run_folder(folder / "run", rounds=2)
    write_evidence(path, Experiment().task.judge, seed=1, resamples=2)
    cells = {"munich": cell([[3, 1], [0, 4]])}
    rows = (ModelRow("Federated", 2, cells),)
    write_matrix(path, CrossSite(("munich",), rows, "classification", 2))
    names = [*FILES, "evidence.json", "cross_site.json"]
    _shorten(path / "predictions.csv", 12)
    honest = [(path / name).read_bytes() for name in names]

    def load(raw: bytes) -> None:
        for name, content in zip(names, honest, strict=True):
            put(path / name, content)
        index, rest = choice(raw, len(names))
        put(path / names[index], rest)
        found = read_run_folder(path)
        plain_values(found.config)
        read_matrix(path)
        record_of({}, found)

    return Made(load, [bytes([at]) + content for at, content in enumerate(honest)])


def _shorten(file: Path, lines: int) -> None:
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:lines]))


@target("configuration of a run")
def configuration(folder: Path) -> Made:
    file = folder / "config.yaml"

    return Made(lambda raw: read_config(put(file, raw)), [to_yaml(Experiment()).encode()])


@target("state of a live run")
def live(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        assert isinstance(read_live(put(folder / "live.json", raw)), dict | None)

    return Made(load, [b'{"round": 1, "batches": 3}'])


@target("explained cases")
def cases(folder: Path) -> Made:
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)
    case = ExplainedCase(1, "a", "b", 0.5, picture, picture)
    write_cases(folder, Explanation("layer4", 4, "test images", (case,)))
    file = folder / "cases.json"
    return Made(lambda raw: read_cases((put(file, raw)).parent), [file.read_bytes()])


@target("pictures of cases")
def pictures(folder: Path) -> Made:
    made = cases(folder)
    file = folder / "case-01.png"

    def load(raw: bytes) -> None:
        put(file, raw)
        made.load(made.seeds[0])

    return Made(load, [file.read_bytes()])


@target("secure sums")
def secure_sums(folder: Path) -> Made:
    row = SumRow(1, "train", 1, ["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"], entries=8)
    log = SumLog(folder)
    log.add(row)
    log.add(row)
    file = folder / "secure-sums.jsonl"

    def load(raw: bytes) -> None:
        put(file, raw)
        totals(read_sum_file(folder).rows)
        log.add(row)
        assert read_sum_file(folder).rows[-1] == row

    return Made(load, [file.read_bytes()])


def _search() -> dict[str, object]:
    entry = {
        "configuration": 0, "values": {"training.learning_rate": 0.1}, "status": "chosen",
        "mcc": 0.5, "loss": 0.4, "reason": "", "image_passes": 60, "rounds": 1, "best_round": 1,
        "rungs": [{"rounds": 1, "best_round": 1, "mcc": 0.5, "loss": 0.4, "image_passes": 60}],
    }  # fmt: skip
    space = {"training.learning_rate": {"low": 0.01, "high": 1.0, "log": True}}
    rungs = [{"configurations": 1, "rounds": 1}]
    return {
        "method": "successive halving", "eta": 3, "seed": 1, "space": space, "rungs": rungs,
        "image_passes": 60, "chosen": 0, "configurations": [entry],
    }  # fmt: skip


@target("search of a run")
def search(folder: Path) -> Made:
    aim = Experiment().task.aim

    def load(raw: bytes) -> None:
        found = read_search((put(folder / "search.json", raw)).parent, aim)
        ranked(found, aim)
        overrides(found)

    return Made(load, [json.dumps(_search()).encode()])


@target("space of a search")
def space(folder: Path) -> Made:
    file = folder / "space.yaml"
    text = b"training.learning_rate: {low: 0.01, high: 1.0, log: true}\n"
    text += b"training.batch_size: {choices: [8, 16]}\n"
    return Made(lambda raw: searched_space(SweepConfig(space_file=str(put(file, raw)))), [text])


def _table(read: Callable[[Path], object], text: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        return Made(lambda raw: read(put(folder / "table.csv", raw)), [text.encode()])

    return make


target("readings of experts")(
    _table(
        lambda path: read_experts(path, ["a.png", "b.png"], ["ill", "well"]),
        "file,reader,label\na.png,r1,ill\nb.png,r1,well\n",
    )
)
target("groups of images")(
    _table(lambda path: read_groups(path, ["a.png", "b.png"]), "file,scanner\na.png,x\n")
)
target("predictions")(
    _table(class_predictions.read, "file,patient,label,prediction,p_a,p_b\nx.png,p,a,a,0.75,0.25\n")
)


@target("digest of a model card")
def digest(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        _digest_of(put(folder / "model.json", raw).parent)

    return Made(load, [b'{"sha256": "abc"}'])


@target("received arrays")
def received(folder: Path) -> Made:
    Recording(folder).begin(1, {"w": np.zeros((2, 2), np.float32)})
    file = path_of(folder, 1, MODEL)

    def load(raw: bytes) -> None:
        put(file, raw)
        trained_from(folder, 1, MODEL)
        found = read_received(folder, 1, MODEL)
        found.change(found.arrays)

    return Made(load, [file.read_bytes()])


@target("kept part of an attack")
def kept_part(folder: Path) -> Made:
    file = folder / "part.safetensors"
    result = Reconstruction(torch.zeros(1, 1, 4, 4), 0.5, 0.25, [0.5, 0.75])
    job = Job("attack", "site-1", 1)
    campaign = SimpleNamespace(_digest="abc", _path=lambda job: file)
    AttackRunner._keep(campaign, Finished(job, result, torch.zeros(1, dtype=torch.int64)))  # type: ignore[arg-type]

    def load(raw: bytes) -> None:
        put(file, raw)
        AttackRunner._kept(campaign, job)  # type: ignore[arg-type]

    return Made(load, [file.read_bytes()])


@target("study of a search")
def study(folder: Path) -> Made:
    where = parse_space({"training.learning_rate": {"low": 0.01, "high": 1.0, "log": True}})
    cfg, aim = SweepConfig(sampler="random"), Experiment().task.aim
    open_study(folder, cfg, where, {"seed": 1}, aim)
    file = folder / STUDY_FILE
    return Made(
        lambda raw: open_study(put(file, raw).parent, cfg, where, {"seed": 1}, aim),
        [file.read_bytes()],
    )


@target("identity of a tracked run")
def tracked(folder: Path) -> Made:
    file = folder / "x.id"
    return Made(lambda raw: _identity(put(file, raw)), [b"0123456789abcdef"])
