"""A provisioned federation of deployed sites in one process; the coordinator is the attacker's.

What stands at a site is the product's: kit, policy, the gate's judgement, the ClientApp. The
coordinator drives the protocol's server side by hand and sends what it likes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from PIL import Image

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, to_yaml, without_sweep
from primia_flwr.errors import PrimiaError
from primia_flwr.flower.bundle import Bundle, stage_bundle
from primia_flwr.messages import keys, records
from primia_flwr.messages import secure as wire
from primia_flwr.models.registry import build_model
from primia_flwr.provisioning.federation import Plan, provision
from primia_flwr.provisioning.identities import roster_keys
from primia_flwr.secagg.payload.layout import Layout
from primia_flwr.secagg.protocol.parties import Session
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import (
    KeysReply,
    KeysRequest,
    SharesReply,
    UnmaskReply,
    decode,
    encode,
    encode_each,
)
from primia_flwr.site.authorisation import Request, judge
from primia_flwr.site.bundle.contents import inspect
from primia_flwr.site.policy import load_policy
from primia_flwr.training.device import derive_seed
from tests.walks.answering import app

RUN = "0123456789abcdef" * 2
SITES = ("munich", "paris", "london", "oslo")
CLASSES = ("ill", "well")
SIMPLE = (
    *("name=pneumonia", "data=folder", "data.root=x", "data.image_size=32", "model=simpleconv"),
    *("model.norm=group", "training.batch_size=64", "training.deterministic=true"),
    *("training.threads=1", "training.device=cpu", "training.optimizer=sgd"),
    *("training.momentum=0", "training.weight_decay=0", "training.schedule=constant"),
    *("training.learning_rate=0.1", "training.min_learning_rate=0.1", "tracking=disabled"),
    *("strategy.weighting=equal", "federation.min_sites=3", "deployment.kind=deployment"),
    *("deployment.superlink=localhost:9391", "deployment.root_certificates=ca"),
    "deployment.roster=r",
    *(f"data.augmentation.{part}.probability=0" for part in ("affine", "brightness", "contrast")),
    *("data.augmentation.flip.horizontal=0", "data.classes=[ill,well]"),
)
Arrays = dict[str, Any]
_Node = dict[str, bool | float | int | str]
_TEXTS: dict[int, tuple[Experiment, str]] = {}


@dataclass(frozen=True)
class Refused:
    """What a site's gate or its app answered in place of content."""

    reason: str
    before: bool  # any code of the bundle ran


class Lab:
    """Provisioned sites with a few images each.

    Parameters
    ----------
    folder : Path
        Empty.
    sites : sequence of str
        Their names.
    names : mapping, optional
        Other names of image files: (site, class, index) to name.
    """

    def __init__(
        self,
        folder: Path,
        sites: Sequence[str] = SITES,
        *,
        images: int = 12,
        names: Mapping[tuple[str, str, int], str] | None = None,
    ) -> None:
        self.folder, self.sites = folder, list(sites)
        self.federation = provision(
            Plan("fl", self.sites, "localhost", 9391, min_sites=3), folder / "federation"
        )
        self.bundle: Bundle = stage_bundle(folder / "app")
        self.described = inspect(self.bundle.content)
        for index, site in enumerate(self.sites):
            _draw(folder / "data" / site, images, index, names or {}, site)
        self._admitted: set[tuple[str, str, str]] = set()
        self._kits = {site: self.policy_file(site).read_text() for site in self.sites}

    def reset(self, policy: Mapping[str, str]) -> None:
        """Forget all that the sites remember, and give them policies; `policy`: key to YAML."""
        for site in self.sites:
            shutil.rmtree(self.policy_file(site).parent / "state", ignore_errors=True)
            self.policy_file(site).write_text(self._kits[site])
            lines = {
                "data_root": f'"{self.folder / "data" / site}"',
                "data_layout": "folder",
                "allowed_experiments": "[pneumonia]",
                "approved_bundles": f"['{self.bundle.sha256}']",
                **policy,
            }
            self.set_policy(site, lines)

    def set_policy(self, site: str, lines: Mapping[str, str]) -> None:
        file = self.policy_file(site)
        kept = [
            line
            for line in file.read_text().splitlines()
            if line.split(":", maxsplit=1)[0] not in lines
        ]
        added = [f"{key}: {value}" for key, value in lines.items()]
        file.write_text("\n".join([*kept, *added]) + "\n")

    def policy_file(self, site: str) -> Path:
        return self.federation.kits[site] / "site.yaml"

    def experiment(
        self, *overrides: str, sites: Sequence[str] | None = None, run: str = RUN
    ) -> Experiment:
        named = f"federation.sites=[{','.join(sites or self.sites)}]"
        config = compose("config", [*SIMPLE, named, *overrides])
        experiment = parse(Experiment, without_sweep(config))
        return replace(experiment, aggregation=replace(experiment.aggregation, run=run))

    # --- Messages ---------------------------------------------------------------------------

    def judge(self, site: str, text: str, message_type: str) -> None:
        """Have the site's gate judge a message as it would arrive; once for what is the same."""
        asked = (self.policy_file(site).read_text(), text, message_type)
        if asked in self._admitted:
            return
        found, digest = self.described, self.bundle.sha256
        request = Request(
            self.bundle.content,
            (digest, digest),
            found.app_id,
            found.version,
            "flwr-serverapp",
            message_type,
            {"config": text},
        )
        judge(request, load_policy(self.policy_file(site)))
        self._admitted.add(asked)

    def send(
        self,
        site: str,
        message_type: str,
        content: RecordDict,
        experiment: Experiment | str,
        *,
        flower_run: int = 1,
    ) -> RecordDict | Refused:
        """Send a message past the gate to the ClientApp; return what would leave the site."""
        text = experiment if isinstance(experiment, str) else _text(experiment)
        try:
            self.judge(site, text, message_type)
        except PrimiaError as refusal:
            return Refused(str(refusal), before=True)
        node: _Node = {"site": site, "site-file": str(self.policy_file(site))}
        context = Context(flower_run, 7, node, RecordDict(), {"config": text})
        message = Message(content, 7, message_type)
        message.metadata.__dict__["_message_id"] = "m"
        try:
            return app(message, context).content
        except Exception as error:
            return Refused(f"{type(error).__name__}: {error}", before=False)

    def query(
        self, site: str, parts: Mapping[str, bytes], experiment: Experiment, **how: Any
    ) -> RecordDict | Refused:
        content = RecordDict({wire.SECAGG: ConfigRecord(dict(parts))})
        return self.send(site, "query.secagg", content, experiment, **how)

    # --- Sums -------------------------------------------------------------------------------

    def instance(
        self,
        number: int,
        experiments: Mapping[str, Experiment],
        *,
        runs: Mapping[str, int] | None = None,
    ) -> ServerInstance:
        """Take keys and shares of the sites in `told`: an instance whose U2 they are."""
        runs = runs or {}
        first = next(iter(experiments.values()))
        every = roster_keys(self.federation.roster_file)
        session = Session(
            first.aggregation.run, {name: every[name] for name in first.federation.sites}
        )
        server = ServerInstance(session, number, wire.floor_of(first))
        for site, experiment in experiments.items():
            reply = self.query(
                site,
                {wire.KEYS: encode(KeysRequest(number))},
                experiment,
                flower_run=runs.get(site, 1),
            )
            server.add_keys(site, decode(_part(reply, wire.KEYS), KeysReply))
        for site, raw in encode_each(server.announce()).items():
            reply = self.query(
                site, {wire.SHARES: raw}, experiments[site], flower_run=runs.get(site, 1)
            )
            server.add_shares(site, decode(_part(reply, wire.SHARES), SharesReply))
        return server

    def vectors(
        self,
        number: int,
        experiments: Mapping[str, Experiment],
        kind: str,
        content: RecordDict | Mapping[str, RecordDict],
        layout: Layout,
        *,
        runs: Mapping[str, int] | None = None,
        base: bytes = b"",
    ) -> tuple[ServerInstance, dict[str, RecordDict | Refused]]:
        """Ask the sites for their masked vectors; return what each answered."""
        runs = runs or {}
        server = self.instance(number, experiments, runs=runs)
        site, experiment = next(iter(experiments.items()))
        sent = (
            dict.fromkeys(experiments, content)
            if isinstance(content, RecordDict)
            else dict(content)
        )
        base = base or wire.model_digest(sent[site].array_records.get(keys.ARRAYS, ArrayRecord()))
        terms = wire.terms_of(experiment, flower_run=runs.get(site, 1), bundle="")
        bound = RecordDict({k: v for k, v in sent[site].items() if k in (keys.ARRAYS, keys.CONFIG)})
        requests = server.begin_sum(wire.transcript_hash(base, bound, layout, kind, terms=terms))
        answers = {}
        for name, request in requests.items():
            records_ = {
                **sent[name],
                wire.SECAGG: ConfigRecord({wire.MASK: encode(request)}),
            }
            answers[name] = self.send(
                name, kind, RecordDict(records_), experiments[name], flower_run=runs.get(name, 1)
            )
            reply = answers[name]
            if isinstance(reply, RecordDict):
                masked = reply.array_records[wire.MASKED]
                server.add_vectors(name, wire.unpack_vectors(masked, layout))
        return server, answers

    def unmask(
        self,
        server: ServerInstance,
        experiments: Mapping[str, Experiment],
        *,
        runs: Mapping[str, int] | None = None,
    ) -> list[Any] | Refused:
        """Ask for shares; return the sums, or the first refusal."""
        for site, raw in encode_each(server.unmask_requests()).items():
            reply = self.query(
                site, {wire.UNMASK: raw}, experiments[site], flower_run=(runs or {}).get(site, 1)
            )
            if isinstance(reply, Refused):
                return reply
            server.add_release(site, decode(_part(reply, wire.UNMASK), UnmaskReply))
        return server.unmask()

    def sum(
        self,
        number: int,
        experiments: Mapping[str, Experiment],
        kind: str,
        content: RecordDict | Mapping[str, RecordDict],
        layout: Layout,
    ) -> list[Any] | Refused:
        """Return the sums over the sites in `told`, or the first refusal."""
        server, answers = self.vectors(number, experiments, kind, content, layout)
        for answer in answers.values():
            if isinstance(answer, Refused):
                return answer
        return self.unmask(server, experiments)

    def own(self, site: str, kind: str, content: RecordDict, experiment: Experiment) -> RecordDict:
        """Return what a site would send in the clear: the ground truth, never sent."""
        from tests.clients.answering import answer_evaluate, answer_statistics, answer_train

        answers = {
            "train": answer_train,
            "evaluate": answer_evaluate,
            "query.statistics": answer_statistics,
        }
        node: _Node = {"site": site, "site-file": str(self.policy_file(site))}
        context = Context(1, 7, node, RecordDict(), {"config": to_yaml(experiment)})
        message = Message(content, 7, kind)
        message.metadata.__dict__["_message_id"] = "m"
        return answers[kind](message, context).content

    def log(self) -> str:
        """Return what the sites' own logs say."""
        files = [load_policy(self.policy_file(site)).log_file for site in self.sites]
        return "".join(file.read_text() for file in files if file.exists())


def _text(experiment: Experiment) -> str:
    """Return the YAML of an experiment, made once for each."""
    known = _TEXTS.get(id(experiment))
    if known is None or known[0] is not experiment:
        known = _TEXTS[id(experiment)] = (experiment, to_yaml(experiment))
    return known[1]


def fresh_model(experiment: Experiment, seed: int | None = None) -> Arrays:
    """Return a model's first arrays: those of the experiment's own seed, or of another."""
    if seed is None:
        seed = derive_seed(experiment.seed, "model")
    model = build_model(experiment.model, outputs=2, channels=experiment.data.channels, seed=seed)
    return wire.numpy_arrays(records.to_arrays(model.state_dict()))


def content_of(arrays: Mapping[str, Any], server_round: int, **more: Any) -> RecordDict:
    """Return what a round sends of a model."""
    config = {
        keys.PIXEL_MEAN: [0.5],
        keys.PIXEL_STD: [0.25],
        keys.LABEL_COUNTS: [18, 18],
        keys.ROUND: server_round,
        **more,
    }
    record = ArrayRecord({n: Array(np.ascontiguousarray(a)) for n, a in arrays.items()})
    return RecordDict({keys.ARRAYS: record, keys.CONFIG: ConfigRecord(config)})


def size_of(arrays: Mapping[str, Any]) -> int:
    return sum(array.size for array in arrays.values())


def last_bit_changed(arrays: Mapping[str, Any], name: str = "classifier.bias") -> Arrays:
    """Return the model with one bit of one entry changed: another digest, the same gradients."""
    changed = {key: value.copy() for key, value in arrays.items()}
    changed[name][0] = np.nextafter(changed[name][0], np.float32(1))
    return changed


def _part(reply: RecordDict | Refused, key: str) -> bytes:
    assert isinstance(reply, RecordDict), reply
    raw = wire.part(reply.config_records[wire.SECAGG], key)
    assert raw is not None
    return raw


def _draw(
    data: Path, images: int, index: int, names: Mapping[tuple[str, str, int], str], site: str
) -> None:
    rng = np.random.default_rng(index)
    for label, name in enumerate(CLASSES):
        (data / name).mkdir(parents=True)
        for number in range(images // 2):
            pixels = rng.integers(60 * label, 60 * label + 150, (32, 32), dtype=np.uint8)
            file = names.get((site, name, number), f"p{number:03d}.png")
            Image.fromarray(pixels).save(data / name / file)
