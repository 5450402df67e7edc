"""The arguments of the encrypted-inference service's three commands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.errors import ConfigError
from primia_flwr.extras import need

_PROTOCOLS = ("fss", "crypten")
_DEVICES = ("auto", "cpu", "cuda")
MAX_AUDITED_BITS = 47  # one less than what 16 bits cut off 64 leave; see crypto.audit_limits


@dataclass
class ServeProviderArguments:
    """`primia serve crypto-provider`; `listen` empty: the port of the kit, on all interfaces.

    `max_connections`: half of them for data owners, of which one may have `max_connections_each`.
    `max_memory`: GB that all sessions may take together; 0: what the machine has left at the start.
    `threads`: of a session, for the comparisons; 0: one for every core.
    """

    kit: str = "."
    listen: str = ""
    max_connections: int = 32
    max_connections_each: int = 4
    max_memory: float = 0.0
    patience: float = 60.0
    idle_hours: float = 72.0
    threads: int = 0
    device: str = "cpu"
    quiet: bool = False

    def __post_init__(self) -> None:
        _check_device(self.device)
        check_range("max_connections", self.max_connections, 2, 1000, example=32)
        check_range("max_connections_each", self.max_connections_each, 1, 1000, example=4)
        check_range("max_memory", self.max_memory, 0, 10**6, example=8)
        check_range("patience", self.patience, 1, 86_400, example=60)
        check_range("idle_hours", self.idle_hours, 0, 10**4, example=72, open_low=True)
        check_range("threads", self.threads, 0, 256, example=0)


@dataclass
class _StoreArguments:
    """Randomness that is fetched ahead: `prefetch` batches, in `folder`, at most `gigabytes`."""

    folder: str = ""
    gigabytes: float = 20.0

    def __post_init__(self) -> None:
        check_range("store.gigabytes", self.gigabytes, 0, 1e5, example=20, open_low=True)


@dataclass
class _PartyArguments:
    """What model owner and data owner set alike; `provider` empty: the address in the kit.

    `audit`: the data owner asks for it, the model owner lets data owners ask. `max_memory`: GB that
    the sessions may take together; 0: what the machine has left.
    """

    kit: str = "."
    provider: str = ""
    protocol: str = "fss"
    prefetch: int = 4
    store: _StoreArguments = field(default_factory=_StoreArguments)
    timeout: float = 60.0
    patience: float = 900.0
    threads: int = 1
    device: str = "cpu"
    audit: bool = False
    max_memory: float = 0.0
    quiet: bool = False

    def __post_init__(self) -> None:
        check_choice("protocol", self.protocol, _PROTOCOLS)
        _check_device(self.device, self.protocol)
        check_audit(self.audit, self.protocol)
        check_range("max_memory", self.max_memory, 0, 10**6, example=8)
        check_range("prefetch", self.prefetch, 1, 100_000, example=4)
        check_range("timeout", self.timeout, 1, 3600, example=60)
        check_range("patience", self.patience, 1, 86_400, example=900)
        check_range("threads", self.threads, 1, 256, example=1)


@dataclass
class ServeModelArguments(_PartyArguments):
    """`primia serve model-owner`; `listen` empty: the port of the kit, on all interfaces.

    `limit`, `life_limit`: images for each data owner, in `limit_hours` and of this model ever; 0:
    a quarter of the answers that read its last layer. Limits that are not below those answers need
    `accept_extraction`: each data owner then has the means to copy the weights. `log` empty:
    `queries.jsonl` in the model's folder, so that it outlives the kit. `max_sessions_each`: of
    `max_sessions`, what one data owner may have; the last one is never the same one's. `max_batch`
    0: up to 16 images, as many as fit into `max_memory` in each session. `compare_bits` 0: as the
    model's calibration recommends; of one that is not calibrated 64, or, with audits, the largest
    that can be audited.
    """

    model: str = ""
    listen: str = ""
    compare_bits: int = 0
    limit: int = 0
    limit_hours: float = 24.0
    life_limit: int = 0
    accept_extraction: bool = False
    log: str = ""
    max_sessions: int = 4
    max_sessions_each: int = 2
    reserved_sessions: int = 1
    idle_hours: float = 72.0
    max_batch: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_compare_bits(self.compare_bits)
        check_audit(self.audit, self.protocol, self.compare_bits)
        check_range("limit", self.limit, 0, 10**9, example=20)
        check_range("life_limit", self.life_limit, 0, 10**9, example=20)
        check_range("limit_hours", self.limit_hours, 0, 10**6, example=24, open_low=True)
        check_range("max_sessions", self.max_sessions, 1, 256, example=4)
        check_range("max_sessions_each", self.max_sessions_each, 1, 256, example=2)
        check_range("reserved_sessions", self.reserved_sessions, 0, 256, example=1)
        check_range("idle_hours", self.idle_hours, 0, 10**4, example=72, open_low=True)
        check_range("max_batch", self.max_batch, 0, 1024, example=16)


@dataclass
class InferDataArguments:
    """The images: `root` is a folder or one file."""

    root: str = ""


@dataclass
class InferArguments(_PartyArguments):
    """`primia infer`; `server` empty: the address in the kit.

    `watch_seconds` and `idle_stop` in seconds; 0: no limit. `resume`: the output folder of an
    interrupted call, whose rows are kept; it goes on with the images that have none.
    """

    server: str = ""
    data: InferDataArguments = field(default_factory=InferDataArguments)
    output: str = ""
    resume: str = ""
    batch: int = 1
    watch: bool = False
    watch_new_only: bool = False
    watch_settle: float = 1.0
    watch_seconds: float = 0.0
    idle_stop: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("batch", self.batch, 1, 1024, example=1)
        check_range("watch_settle", self.watch_settle, 0, 3600, example=1)
        check_range("watch_seconds", self.watch_seconds, 0, 10**9, example=28_800)
        check_range("idle_stop", self.idle_stop, 0, 10**9, example=3600)
        self._check_watch()
        self._check_resume()

    def _check_resume(self) -> None:
        if self.resume and (self.watch or self.output):
            other = "watch=true" if self.watch else f"output={self.output}"
            raise ConfigError(
                f"resume={self.resume} with {other}; expected resume alone: a call goes on in its "
                "own folder, and a watch begins anew"
            )

    def _check_watch(self) -> None:
        if self.watch and (self.batch != 1 or self.protocol != "fss"):
            raise ConfigError(
                f"batch={self.batch} and protocol={self.protocol} with watch=true; expected "
                "batch=1 and protocol=fss: images are classified one by one, as they come"
            )
        only = ("watch_new_only", "watch_seconds", "idle_stop")
        for name in only if not self.watch else ():
            if getattr(self, name):
                raise ConfigError(
                    f"{name}={getattr(self, name)} without watch=true; expected watch=true, which "
                    "watches a folder"
                )


@dataclass
class InferenceTrialArguments:
    """`primia inference trial`: `model` empty: a demo run's, trained where there is none.

    `compare_bits` as of `primia serve model-owner`.
    """

    model: str = ""
    data: InferDataArguments = field(default_factory=InferDataArguments)
    images: int = 10
    protocol: str = "fss"
    batch: int = 1
    prefetch: int = 4
    compare_bits: int = 0
    device: str = "cpu"
    audit: bool = False
    output: str = ""
    quiet: bool = False

    def __post_init__(self) -> None:
        check_choice("protocol", self.protocol, _PROTOCOLS)
        _check_device(self.device, self.protocol)
        check_range("images", self.images, 1, 10**6, example=10)
        check_range("batch", self.batch, 1, 1024, example=1)
        check_range("prefetch", self.prefetch, 1, 100_000, example=4)
        _check_compare_bits(self.compare_bits)
        check_audit(self.audit, self.protocol, self.compare_bits)


def _check_compare_bits(bits: int) -> None:
    """Refuse a ring that is none; 0: the model decides."""
    if bits:
        check_range("compare_bits", bits, 8, 64, example=32)


def check_installed(protocol: str) -> None:
    """Refuse a protocol whose package is not installed.

    Raises
    ------
    MissingExtraError
        If it is CrypTen's, and CrypTen is missing.
    """
    if protocol == "crypten":
        need("crypten", "protocol=crypten", instead="protocol=fss")


def check_audit(audit: bool, protocol: str, compare_bits: int = 8) -> None:
    """Refuse an audit where there is nothing to audit, or where it would not see everything.

    Raises
    ------
    ConfigError
        If the protocol has none, or the ring is too large for a wrong cut to be outside of it.
    """
    if audit and protocol != "fss":
        raise ConfigError(f"audit=true with protocol={protocol}; expected protocol=fss")
    if audit and compare_bits > MAX_AUDITED_BITS:
        raise ConfigError(
            f"audit=true with compare_bits={compare_bits}; expected at most {MAX_AUDITED_BITS}: in "
            "a larger ring a number that was cut wrongly need not be outside"
        )


def _check_device(device: str, protocol: str = "fss") -> None:
    """Refuse a device that is none, or that the protocol does not compute on."""
    check_choice("device", device, _DEVICES)
    if protocol == "crypten" and device != "cpu":
        raise ConfigError(
            f"device={device} with protocol=crypten, which computes on the CPU here; expected "
            "device=cpu, or protocol=fss"
        )


def settings_of(cfg: _PartyArguments) -> dict[str, Any]:
    """Return what a party's `Settings` takes from its arguments."""
    names = ("prefetch", "timeout", "patience", "threads", "protocol", "audit", "max_memory")
    values = {name: getattr(cfg, name) for name in names}
    values["store_bytes"] = int(cfg.store.gigabytes * 10**9)
    if cfg.store.folder:
        values["store"] = Path(cfg.store.folder).expanduser().resolve()
    return values
