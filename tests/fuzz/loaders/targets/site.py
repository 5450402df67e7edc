"""What a hospital's gate reads: its policy, the bundle, the arriving configuration, its log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import load_experiment, to_yaml
from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.site.authorisation import Request, judge
from primia_flwr.site.bundle.approval import approve_file
from primia_flwr.site.bundle.archive import sha256
from primia_flwr.site.bundle.contents import inspect, read_file, read_files
from primia_flwr.site.bundle.installed import is_intact
from primia_flwr.site.bundle.store import BundleStore
from primia_flwr.site.limits import read_limits
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import SitePolicy, load_policy
from tests.fuzz.loaders.target import Made, put, target
from tests.fuzz.loaders.targets.federation import federation_in
from tests.site.bundle_maker import make_bundle, make_installable

SHORT = b"""name: demo
federation: {min_sites: 3}
aggregation: {name: secure}
privacy: {mode: none}
search: {population: 2, space: {training.learning_rate: {low: 0.1, high: 1, log: true}}}
"""
ODD_YAML = (
    SHORT.replace(b", log:", b", !!timestamp 2020-13-45log:"),
    SHORT.replace(b"min_sites: 3", b"min_sites: !!bool x"),
    SHORT.replace(b"min_sites: 3", b"min_sites: &a [*a]"),
    SHORT.replace(b"demo", b"${oc.env:HOME}"),
)
BUNDLE = make_installable({"light.py": "app = 1\n", "pkg/__init__.py": ""})


@target("policy")
def policy(folder: Path) -> Made:
    file = federation_in(folder).kits["munich"] / "site.yaml"

    def load(raw: bytes) -> None:
        found = load_policy(put(file, raw))
        assert found.path(found.data_root)
        assert found.log_file

    odd = (b"\0\0\0???\1\0\0\0\xd9&\x165S\xbb\xfc\xf1unich ", b"site: 2001-02-30 99:99:99")
    return Made(load, [file.read_bytes()], odd=odd, share=4)


@target("patients' limits")
def limits(folder: Path) -> Made:
    file = folder / "limits.csv"

    def load(raw: bytes) -> None:
        found = read_limits(put(file, raw))
        assert all(key and 0 <= limit <= 1000 for key, limit in found.of.items())
        assert found.opted_out.isdisjoint(found.limited)

    odd = (b"patient,epsilon\na,1e-400\n", b'patient,epsilon\n"a\n\n",1\n', b"\xef\xbb\xbf")
    return Made(load, [b"patient,epsilon\np1,0\np2,1.5\n"], odd=odd)


@target("arriving experiment")
def arriving(folder: Path) -> Made:
    seeds = [to_yaml(Experiment()).encode(), SHORT]

    def load(raw: bytes) -> None:
        experiment = load_experiment(raw.decode("utf-8", "replace"))
        assert load_experiment(to_yaml(experiment)) == experiment

    return Made(load, seeds, odd=ODD_YAML, share=8)


@target("gate")
def gate(folder: Path) -> Made:
    own = SitePolicy("munich", "a:1", allowed_experiments=["*"], approved_bundles=[sha256(BUNDLE)])

    def load(raw: bytes) -> None:
        run_config = {"config": raw.decode("utf-8", "replace")}
        described = inspect(BUNDLE)
        judge(
            Request(
                bundle=BUNDLE,
                claimed_hashes=(described.sha256,),
                app_id=described.app_id,
                app_version=described.version,
                message_type="train",
                run_task="",
                run_config=run_config,
            ),
            own,
        )
        load_mapping(run_config["config"], what="the run's experiment")

    secure = AggregationConfig(name="secure")
    whole = Experiment(aggregation=secure, federation=FederationConfig(min_sites=3))
    return Made(load, [SHORT, to_yaml(whole).encode()], odd=ODD_YAML, share=8)


@target("bundle")
def bundle(folder: Path) -> Made:
    store = BundleStore(folder / "bundles")

    def load(raw: bytes) -> None:
        inspect(raw)
        for name in read_files(raw):
            assert read_file(raw, name).replace("\n", "").replace("\t", "").isprintable()
        assert store.add(raw)
        assert store.read(sha256(raw)) == raw

    bomb = make_bundle(project=b" " * (48 << 20))
    odd = (bomb, make_bundle({"../a.py": ""}), make_bundle(project="a = " + "[" * 2000))
    return Made(load, [BUNDLE, make_bundle()], odd=odd, share=8)


@target("bundle to approve")
def approved(folder: Path) -> Made:
    kit = federation_in(folder).kits["munich"]
    file, before = kit / "site.yaml", (kit / "site.yaml").read_bytes()

    def load(raw: bytes) -> None:
        put(file, before)
        approve_file(file, put(folder / "x.fab", raw))
        assert sha256(raw) in load_policy(file).approved_bundles

    return Made(load, [BUNDLE])


@target("unpacked bundle")
def unpacked(folder: Path) -> Made:
    app = folder / "app"
    app.mkdir()
    for name, content in read_files(BUNDLE).items():
        if not name.startswith(".info/"):
            (app / name).parent.mkdir(exist_ok=True)
            put(app / name, content)
    seed = (app / "light.py").read_bytes()

    def load(raw: bytes) -> None:
        put(app / "light.py", raw)
        assert is_intact(app, BUNDLE) == (raw == seed)

    return Made(load, [seed])


def _chained(raw: bytes) -> bytes:
    """Make the hashes of a log's lines fit."""
    lines, previous = [], "0" * 64
    for line in raw.splitlines():
        entry = json.loads(line) | {"previous": previous}
        names = ("number", "time", "event", "details", "previous")
        hashed = json.dumps([entry[name] for name in names], sort_keys=True)
        previous = hashlib.sha256(hashed.encode()).hexdigest()
        lines.append(json.dumps(entry | {"hash": previous}, sort_keys=True).encode() + b"\n")
    return b"".join(lines)


@target("site log")
def site_log(folder: Path) -> Made:
    file = folder / "site-log.jsonl"
    for number in range(3):
        SiteLog(file).append("request", run=str(number), message="train", bytes=3)

    def load(raw: bytes) -> None:
        put(file, raw)
        known = len(list(SiteLog(file).entries()))
        SiteLog(file).append("stopped")
        assert len(list(SiteLog(file).entries())) == known + 1

    return Made(load, [file.read_bytes()], _chained)
