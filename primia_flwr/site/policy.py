"""What a hospital allows: one YAML file that it edits itself.

The file is read anew for every message, so that an edit counts at once. An unknown key, a
wrong type or a value out of range is an error that names the key: a policy that cannot be
understood allows nothing.
"""

import dataclasses
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from primia_flwr.config import renamed
from primia_flwr.config.checks import (
    check_choice,
    check_classes,
    check_column,
    check_columns,
    check_day,
    check_mask_values,
    check_pattern,
    check_range,
)
from primia_flwr.config.experiment.deployment import check_address
from primia_flwr.config.experiment.privacy import UNITS
from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.config.rows import LAYOUTS, TASKS
from primia_flwr.errors import ConfigError
from primia_flwr.site.log import EVENTS
from primia_flwr.storage.printable import printable, shown
from primia_flwr.storage.reading import read_text, reading

if TYPE_CHECKING:
    from primia_flwr.config.experiment.data import DataConfig

ANY = "*"
_CATEGORIES = ("train", "evaluate", "query")
_RELAYS = ("no", "private", "yes")
_SPELLED = {False: "no", True: "yes"}  # what YAML makes of the words
_WEIGHTS = ("known", "any")
_MAX_POLICY_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_PLUGIN = re.compile(r"plugin:([a-z][a-z0-9_]{0,63})")
_MESSAGE = re.compile(rf"({'|'.join(_CATEGORIES)})(\.[A-Za-z0-9_]+)?")
_ARGUMENT = re.compile(r"[^\0]+")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass
class SitePolicy:
    """The hospital's side of the contract.

    Paths may be relative to the folder of the file. `approved_bundles` are SHA-256 hashes of
    code that may run here. `allowed_experiments` are names of experiments, or `*`.
    `allowed_messages` are message types: `train` allows every kind of training message,
    `query.statistics` only that one. `min_sites`: refuse runs that would go on with fewer
    sites, because an average over few sites hides little.

    `data_task`: what a label is here, `plugin:<name>` of a task that comes with the run's code.
    `data_classes`: the classes or findings that this site's labels tell apart, of masks in the
    order of their values; `data_mask_values`: these values. Empty: as a run says.
    `patient_pattern`: in the layout `folder`, the regular expression with a group `patient` that
    finds the patient in an image's path; empty: the layout's own rule. `patient_column`: of the
    manifest; `data_columns`: what its other columns are called, by what they hold.
    `min_round_images`: refuse runs whose rounds train on fewer images of this site, because a sum
    over few images is close to them.

    For secure aggregation: `min_survivors` and `max_colluding` as in `secagg.parties.Floor`;
    `allow_other_survivors`: answer sums over any lists of sites, whose differences show single
    sites; `allow_mixed_rounds`: be in a sum over updates of different rounds' models, so that a
    coordinator that lies about the other models can show this site's update; `allow_fingerprint`:
    let spacings, sizes and intensities of this site's volumes be counted into the run's sums, if it
    trains on `min_fingerprint_volumes` or more: with fewer it does not answer;
    `member_lists_since`: lists answered before this day do not count (a site came or
    left for good, and the staff agrees); `allow_sparse_graph`: take part where sites mask with some
    others only, which holds against a coordinator that keeps to the protocol, and then with
    `sparse_min_survivors` and `sparse_max_colluding`; `count_digits`: significant digits of the
    counts of training images that go into a sum, 0 for all; `require_secure_aggregation`: refuse
    runs without it, in which the coordinator sees this site's own updates.

    `allow_relay`: take part where the next hospital gets the model that this site has trained:
    `private`, in runs with dp_sgd within `max_epsilon`, or `yes`, in all. With
    `require_secure_aggregation` only where no model of a relay reaches the coordinator.

    For differential privacy: `max_epsilon`, the most that all runs together may cost a patient of
    this site, at `privacy_delta`; runs without it are then refused, because they have no epsilon.
    0: no ceiling; what private runs cost is still written into the ledger. `privacy_unit`: whom
    that protects, a `patient` with all images, or a single `image`; runs with another unit, or with
    a smaller delta, are refused. Unit and delta cannot change once the ledger has begun.
    `patient_limits`: a CSV file `patient,epsilon`, the most that a single patient allows: 0 takes
    the patient out of every run, another number lets the patient into private runs within it.
    `initial_weights`: SHA-256 of models that none of this site's patients were in the training of;
    a private run begins with one of these, or with random weights of its public seed.
    `allow_weights`: `any`; or `known`, then every run begins with random weights of its seed, with
    published ones that this site has installed itself, or with those of `initial_weights`.

    `on_event`: a program of the hospital's own and its arguments, which gets each event of the
    site's log in `on_event_kinds` as JSON on its standard input; see `watch.alerts`.
    """

    site: str
    superlink: str
    root_certificates: str = "ca.crt"
    supernode_key: str = "supernode.key"
    identity_key: str = "identity.key"
    roster: str = "roster.yaml"
    data_root: str = ""
    data_layout: str = "auto"
    data_manifest: str = ""
    data_task: str = "classification"
    data_classes: list[str] = field(default_factory=list)
    data_mask_values: list[int] = field(default_factory=list)
    patient_pattern: str = ""
    patient_column: str = "patient"
    data_columns: dict[str, str] = field(default_factory=dict)
    device: str = "auto"
    state: str = "state"
    approved_bundles: list[str] = field(default_factory=list)
    allowed_experiments: list[str] = field(default_factory=list)
    allowed_messages: list[str] = field(default_factory=lambda: list(_CATEGORIES))
    min_sites: int = 2
    min_round_images: int = 4
    min_survivors: int = 3
    max_colluding: int = 0
    accept_two: bool = False
    allow_other_survivors: bool = False
    allow_mixed_rounds: bool = False
    allow_fingerprint: bool = False
    min_fingerprint_volumes: int = 4
    member_lists_since: str = ""
    allow_sparse_graph: bool = False
    sparse_min_survivors: int = 100
    sparse_max_colluding: int = 10
    count_digits: int = 2
    require_secure_aggregation: bool = True
    allow_relay: str = "no"
    max_epsilon: float = 0.0
    privacy_delta: float = 1e-5
    privacy_unit: str = "patient"
    patient_limits: str = ""
    initial_weights: list[str] = field(default_factory=list)
    allow_weights: str = "any"
    on_event: list[str] = field(default_factory=list)
    on_event_kinds: list[str] = field(
        default_factory=lambda: ["stored", "refused", "failed", "given-up", "warning", "stopped"]
    )
    folder: Path = field(default=Path(), metadata={"internal": True})

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.site):
            raise ConfigError(
                f"site={self.site!r:.80}; expected 1 to 32 letters, digits, '-' or '_', e.g. munich"
            )
        check_address("superlink", self.superlink)
        check_choice("data_layout", self.data_layout, LAYOUTS)
        if not _PLUGIN.fullmatch(self.data_task):
            check_choice("data_task", self.data_task, [*TASKS, "plugin:<name>"])
        check_classes("data_classes", self.data_classes)
        check_mask_values(
            "data_mask_values", self.data_mask_values, "data_classes", self.data_classes
        )
        check_choice("allow_relay", self.allow_relay, _RELAYS)
        check_range("min_sites", self.min_sites, 1, 1000, example=3)
        check_range("min_survivors", self.min_survivors, 2, 1000, example=3)
        check_range("max_colluding", self.max_colluding, 0, 1000, example=1)
        check_range("min_round_images", self.min_round_images, 1, 10**6, example=4)
        check_range("min_fingerprint_volumes", self.min_fingerprint_volumes, 1, 10**6, example=4)
        check_range("sparse_min_survivors", self.sparse_min_survivors, 3, 1000, example=100)
        check_range("sparse_max_colluding", self.sparse_max_colluding, 0, 1000, example=10)
        check_day("member_lists_since", self.member_lists_since)
        check_pattern("patient_pattern", self.patient_pattern)
        check_column("patient_column", self.patient_column)
        check_columns("data_columns", self.data_columns)
        check_range("count_digits", self.count_digits, 0, 9, example=2)
        check_choice("privacy_unit", self.privacy_unit, UNITS)
        check_choice("allow_weights", self.allow_weights, _WEIGHTS)
        check_range("max_epsilon", self.max_epsilon, 0, 1000, example=3)
        check_range(
            "privacy_delta", self.privacy_delta, 0, 1, example=1e-5, open_low=True, open_high=True
        )
        self._check_lists()

    def _check_lists(self) -> None:
        if self.patient_limits and self.privacy_unit != "patient":
            raise ConfigError(
                f"patient_limits={shown(self.patient_limits, limit=80)} with privacy_unit="
                f"{self.privacy_unit}; expected patient: what an image cost says nothing of a "
                "patient; set privacy_unit: patient"
            )
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"device={self.device!r:.80}; expected auto, cpu, cuda or cuda:0")
        _check_each("approved_bundles", self.approved_bundles, _SHA256, "a SHA-256, 64 hex digits")
        _check_each("initial_weights", self.initial_weights, _SHA256, "a SHA-256, 64 hex digits")
        for kind in self.on_event_kinds:
            check_choice("on_event_kinds", printable(kind, limit=80), EVENTS)
        _check_each("on_event", self.on_event, _ARGUMENT, "a program and its arguments")
        messages = "train, evaluate or query[.name]"
        _check_each("allowed_messages", self.allowed_messages, _MESSAGE, messages)
        for name in self.allowed_experiments:
            if name != ANY and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
                raise ConfigError(
                    f"allowed_experiments={name!r:.200}; expected names of experiments or '*', "
                    "e.g. [pneumonia]"
                )

    def path(self, value: str) -> Path:
        """Return a path of the policy, resolved against the folder of its file."""
        try:
            return (self.folder / Path(value).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError):  # no such user, a loop of links, a NUL
            raise ConfigError(
                f"{shown(value, limit=80)} cannot be a path here; expected one like data/chest"
            ) from None

    @property
    def plugin_task(self) -> str:
        """The task of the run's own code that this site's labels are for; empty for one of ours."""
        found = _PLUGIN.fullmatch(self.data_task)
        return found[1] if found else ""

    @property
    def masked(self) -> bool:
        """Whether the site's labels are masks, as far as its own code knows."""
        return not self.plugin_task and bool(TASKS[self.data_task].masked)

    def data_of(self, wish: "DataConfig") -> "DataConfig":
        """Return what a run wishes of the data, with what is this site's own to say."""
        return dataclasses.replace(
            wish,
            layout=self.data_layout,
            root=str(self.path(self.data_root)) if self.data_root else "",
            manifest=str(self.path(self.data_manifest)) if self.data_manifest else "",
            mask_values=self.data_mask_values or wish.mask_values,
            patient_pattern=self.patient_pattern,
            patient_column=self.patient_column,
            columns=self.data_columns,
            cache_dir=str(self.state_folder / "cache"),
        )

    @property
    def state_folder(self) -> Path:
        """The folder in which the site keeps its log, its bundles and its private state."""
        return self.path(self.state)

    @property
    def log_file(self) -> Path:
        """The append-only log of the site."""
        return self.state_folder / "site-log.jsonl"

    @property
    def privacy_folder(self) -> Path:
        """The folder of the site's privacy ledger."""
        return self.state_folder / "privacy"

    @property
    def bundle_folder(self) -> Path:
        """The folder of bundles that arrived here."""
        return self.state_folder / "bundles"


def load_policy(file: Path) -> SitePolicy:
    """Read and check a policy file.

    Raises
    ------
    ConfigError
        If the file is missing, every user may change it, it is not YAML, or a key is unknown,
        missing or wrong.
    """
    expected = "the site's policy, e.g. the site.yaml of the start-up kit"
    with reading(file, error=ConfigError, expected=expected):
        text = read_text(file, at_most=_MAX_POLICY_BYTES)
        mode = file.stat().st_mode
        folder = file.resolve().parent
    if mode & stat.S_IWOTH:
        raise ConfigError(
            f"{file} can be changed by every user of this computer; expected the site's own "
            f"policy; run chmod o-w {file}"
        )
    try:
        return parse_policy(text, folder=folder)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def parse_policy(text: str, *, folder: Path) -> SitePolicy:
    """Turn the text of a policy into a checked `SitePolicy`.

    Raises
    ------
    ConfigError
        If it is not a YAML mapping of known keys with values of the right type.
    """
    content = load_mapping(text, what="the policy")
    known = {f.name: f for f in dataclasses.fields(SitePolicy) if "internal" not in f.metadata}
    renamed.check_keys(content)
    if type(content.get("allow_relay")) is bool:
        content["allow_relay"] = _SPELLED[content["allow_relay"]]
    for key in content:
        check_choice("key", printable(key, limit=80), known)
    for key, spec in known.items():
        if key in content:
            _check_type(key, content[key], spec.type)
        elif spec.default is spec.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{key} is missing; expected it in the policy, e.g. {_EXAMPLES[key]}")
    return SitePolicy(**content, folder=folder)


_KINDS = {"str": "text", "int": "a whole number", "bool": "true or false", "float": "a number"}
_EXAMPLES = {"site": "munich", "superlink": "fl.example.org:9391"}


def _check_type(key: str, value: object, annotation: Any) -> None:
    if get_origin(annotation) is dict:
        if isinstance(value, dict) and all(type(v) is str for pair in value.items() for v in pair):
            return
        expected = "a mapping of names, e.g. {path: Image Index}"
    elif get_origin(annotation) is list:
        (element,) = get_args(annotation)
        if isinstance(value, list) and all(type(v) is element for v in value):
            return
        expected = f"a list of {element.__name__}"
    else:
        if type(value) is annotation or (annotation is float and type(value) is int):
            return
        expected = _KINDS[annotation.__name__]
    raise ConfigError(f"{key}={value!r:.200}; expected {expected}")


def _check_each(key: str, values: list[str], pattern: re.Pattern[str], expected: str) -> None:
    for value in values:
        if not pattern.fullmatch(value):
            raise ConfigError(f"{key}={value!r:.200}; expected {expected}")
