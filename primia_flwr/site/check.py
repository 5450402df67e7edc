"""Is this site ready? Data, keys, clock, certificate, link, disk, device: one line each.

Every check returns a finding and never raises for a site's mistake, so that the hospital sees
all of them at once.
"""

import re
import shlex
import shutil
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import FederationError, PrimiaError
from primia_flwr.processes.proxies import proxy_to, through_proxy
from primia_flwr.site.limits import read_limits
from primia_flwr.site.policy import SitePolicy
from primia_flwr.site.validity import AT_SITE, ca_ending, read_certificate, superlink_ending

if TYPE_CHECKING:
    from primia_flwr.config.experiment.data import DataConfig

MIN_FREE_BYTES = 2 * 2**30
_OF_LIBRARY = re.compile(r"\[[A-Z_]+(: [A-Z_]+)?\] |\(?_ssl\.c:\d+\)?:? ?")
_MAX_CLOCK_DIFFERENCE = timedelta(seconds=5)
_KEY_KINDS = {
    "supernode_key": (ec.EllipticCurvePrivateKey, "P-384"),
    "identity_key": (ed25519.Ed25519PrivateKey, "Ed25519"),
}


@dataclass(frozen=True)
class Finding:
    """The result of one check: ready or not, what was found, and what to do."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def check_site(policy: SitePolicy) -> list[Finding]:
    """Run all checks of a site, in the order in which one would repair them."""
    return [
        check_key(policy, "supernode_key"),
        check_key(policy, "identity_key"),
        check_certificate(policy),
        *check_link(policy),
        check_policy(policy),
        *check_limits(policy),
        check_disk(policy),
        check_device(policy),
        *check_data(policy),
    ]


def check_key(policy: SitePolicy, key: str) -> Finding:
    """Check a private key: there, of the right kind, readable by its owner only."""
    file = policy.path(getattr(policy, key))
    kind, label = _KEY_KINDS[key]
    try:
        private = load_ssh_private_key(file.read_bytes(), None)
    except OSError as error:
        return Finding(key, False, f"{file}: {_short(error)}", "unzip the start-up kit again")
    except Exception:  # of algorithms that nobody knows almost anything comes
        return Finding(key, False, f"{file} is no private key", "unzip the start-up kit again")
    if not isinstance(private, kind):
        return Finding(key, False, f"{file} is no {label} key", "use the key of the start-up kit")
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding(key, False, f"{file} has mode {mode:o}", f"run chmod 600 {file}")
    return Finding(key, True, f"{label}, mode {mode:o}")


def check_certificate(policy: SitePolicy, *, now: datetime | None = None) -> Finding:
    """Check the CA certificate: readable, valid today, and its fingerprint."""
    file = policy.path(policy.root_certificates)
    try:
        certificate = read_certificate(file)
        ending = ca_ending(file, AT_SITE, now=now)
    except FederationError as error:
        return Finding("certificate", False, str(error), "unzip the start-up kit again")
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    if ending:
        found = f"{ending.what} {ending.when}, CA {fingerprint}"
        return Finding("certificate", not ending.over, found, ending.remedy)
    until = certificate.not_valid_after_utc
    return Finding("certificate", True, f"valid to {until:%Y-%m-%d}, CA {fingerprint}")


def check_link(policy: SitePolicy, *, timeout: float = 5.0) -> list[Finding]:
    """Try TCP and TLS to the SuperLink with the CA of the kit, and its clock against ours.

    It goes through a proxy where the SuperNode does.
    """
    try:
        context = ssl.create_default_context(cafile=str(policy.path(policy.root_certificates)))
    except (OSError, ValueError) as error:
        return [
            Finding("link", False, f"root_certificates: {_short(error)}", "unzip the kit again")
        ]
    connection = _connection(policy.superlink, context, timeout)
    try:
        connection.request("GET", "/")
        date = connection.getresponse().getheader("Date", "")
    except ssl.SSLError as error:
        return [_tls_finding(policy, error)]
    except socket.gaierror:
        found = f"no address for {connection.host}{through_proxy(policy.superlink)}"
        return [Finding("link", False, found, "check superlink and your DNS")]
    except (OSError, HTTPException) as error:
        found = f"{policy.superlink}{through_proxy(policy.superlink)}: {_short(error)}"
        remedy = "is the SuperLink running, and may this computer connect out to that port?"
        return [Finding("link", False, found, remedy)]
    finally:
        connection.close()
    return [_link_finding(policy), _clock_finding(date)]


def _connection(address: str, context: ssl.SSLContext, timeout: float) -> HTTPSConnection:
    host, _, port = address.rpartition(":")
    proxy = proxy_to(address)
    ends = (proxy.host, proxy.port) if proxy else (host.strip("[]"), int(port))
    connection = HTTPSConnection(*ends, timeout=timeout, context=context)
    if proxy:
        connection.set_tunnel(host.strip("[]"), int(port), headers=proxy.headers)
    return connection


def check_policy(policy: SitePolicy) -> Finding:
    """Check whether anything at all is allowed."""
    if not policy.allowed_experiments or not policy.allowed_messages:
        return Finding(
            "policy",
            False,
            "no experiment or no kind of message is allowed",
            "name experiments in allowed_experiments of site.yaml",
        )
    return Finding(
        "policy",
        True,
        f"experiments {', '.join(policy.allowed_experiments)}; "
        f"{len(policy.approved_bundles)} approved bundles; at least {policy.min_sites} sites",
    )


def check_limits(policy: SitePolicy) -> list[Finding]:
    """Check the table of what single patients allow, where the site has one."""
    if not policy.patient_limits:
        return []
    try:
        limits = read_limits(policy.path(policy.patient_limits))
    except PrimiaError as error:
        return [Finding("patient limits", False, str(error), "correct the table")]
    out, limited = len(limits.opted_out), len(limits.limited)
    found = f"{out} take part in nothing, {limited} in private runs within their limit"
    return [Finding("patient limits", True, found)]


def check_disk(policy: SitePolicy) -> Finding:
    """Check the free space where the site keeps its state."""
    folder = policy.state_folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GiB free in {folder}"
    return Finding(
        "disk", free >= MIN_FREE_BYTES, found, "" if free >= MIN_FREE_BYTES else "free 2 GiB"
    )


def check_device(policy: SitePolicy) -> Finding:
    """Check the device that the policy names."""
    import torch  # heavy, and only this check needs it

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = ", ".join(cards) or f"no GPU; CPU with {torch.get_num_threads()} threads"
    wanted = policy.device
    index = int(wanted.partition(":")[2] or 0) if wanted.startswith("cuda") else -1
    if index >= len(cards):
        return Finding("device", False, found, f"device={wanted} is not here; set auto or cpu")
    return Finding("device", True, found)


def check_data(policy: SitePolicy) -> list[Finding]:
    """Check that every image can be read, and that patients are consistent."""
    from primia_flwr.config.experiment.data import (
        DataConfig,  # heavy, and only this check needs them
    )
    from primia_flwr.data import check as data_check

    if not (policy.data_root or policy.data_manifest):
        return [Finding("data", False, "no data named", "set data_root in site.yaml")]
    if policy.plugin_task:
        said = f"not looked at: only a run's own code reads labels of {policy.data_task}"
        return [Finding("data", True, said)]
    try:
        cfg = policy.data_of(DataConfig(task=policy.data_task, classes=policy.data_classes))
        found = data_check.check_data(_with_another_class(cfg), seed=0)
    except PrimiaError as error:
        return [Finding("data", False, str(error), "correct data_... in site.yaml, or the data")]
    remedy = f"{_data_command(cfg)} names every file"
    unreadable = [f"{file}: {why}" for file, why in found.unreadable.items()]
    problems = [*found.errors, *unreadable]
    if problems:
        return [Finding("data", False, f"{len(problems)} problems, first {problems[0]}", remedy)]
    several = TASKS[cfg.task].several
    names = f"with {len(cfg.classes)} findings" if several else f"in {len(found.classes)} classes"
    return [
        Finding("data", True, f"{found.images} images {names}, all readable"),
        _patients_finding(found.patients, found.patients_on_both_sides, remedy),
        *_doubts(policy, found.unknown_patients, found.warnings, remedy),
    ]


def _data_command(cfg: "DataConfig") -> str:
    """Return the command that looks at such data more closely."""
    words = {
        "data.root": cfg.root or str(Path(cfg.manifest).parent),
        "data.manifest": cfg.manifest,
        "data.task": "" if cfg.task == "classification" else cfg.task,
        "data.layout": "" if cfg.layout == "auto" else cfg.layout,
        "data.classes": f"[{','.join(cfg.classes)}]" if cfg.classes else "",
        "data.mask_values": str(cfg.mask_values).replace(" ", "") if cfg.mask_values else "",
    }
    given = (shlex.quote(f"{key}={value}") for key, value in words.items() if value)
    return " ".join(("primia data check", *given))


def _with_another_class(cfg: "DataConfig") -> "DataConfig":
    """Name a second class where there is one only: an experiment names them all."""
    from primia_flwr.data.reading.any_layout import read_manifest
    from primia_flwr.data.reading.common import OneClassError

    try:
        read_manifest(cfg, seed=0)
    except OneClassError as error:
        return replace(cfg, classes=[error.name, f"not {error.name}"]) if error.name else cfg
    return cfg


def _doubts(
    policy: SitePolicy, unknown: int, warnings: Sequence[str], remedy: str
) -> list[Finding]:
    """Say what a private run would refuse, and how many warnings there are."""
    if unknown and policy.max_epsilon and policy.privacy_unit == "patient":
        text = f"{unknown} images of unknown patients, which a run by patient refuses"
        return [Finding("patients", False, text, "name the patients, or set privacy_unit: image")]
    if not warnings:
        return []
    return [Finding("doubts", True, f"{len(warnings)} warnings, first {warnings[0]}", remedy)]


def _patients_finding(count: int, shared: dict[str, list[str]], remedy: str) -> Finding:
    if shared:
        first = next(iter(shared))
        return Finding(
            "patients", False, f"{len(shared)} on both sides of a split, first {first}", remedy
        )
    return Finding("patients", True, f"{count} patients, none on both sides of a split")


def _link_finding(policy: SitePolicy) -> Finding:
    """Say that the link is there, and whether the SuperLink's certificate ends soon."""
    ca = policy.path(policy.root_certificates)
    ending = superlink_ending(policy.superlink, ca, AT_SITE)
    if ending is None:
        return Finding("link", True, f"TLS to {policy.superlink}")
    return Finding("link", not ending.over, f"{ending.what} {ending.when}", ending.remedy)


def _tls_finding(policy: SitePolicy, error: ssl.SSLError) -> Finding:
    finding = _link_finding(policy)
    if not finding.ok:
        return finding
    if isinstance(error, ssl.SSLCertVerificationError):
        return Finding(
            "link",
            False,
            f"the certificate of {policy.superlink} is not one of this federation "
            f"({error.verify_message})",
            "compare the CA fingerprint with the coordinator; do not go on before it fits",
        )
    return Finding(
        "link", False, f"{policy.superlink} does not speak TLS ({_short(error)})", "check superlink"
    )


def _clock_finding(date: str, *, now: datetime | None = None) -> Finding:
    now = now or datetime.now(UTC)
    try:
        difference = abs(now - parsedate_to_datetime(date))
    except (TypeError, ValueError):
        return Finding("clock", True, "the SuperLink names no time; not compared")
    found = f"{difference.total_seconds():.0f} s from the SuperLink's"
    if difference > _MAX_CLOCK_DIFFERENCE:
        return Finding("clock", False, found, "set the clock (NTP): signatures carry the time")
    return Finding("clock", True, found)


def _short(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(_OF_LIBRARY.sub("", str(text)).split())[:160]
