import errno
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from primia_flwr.errors import FederationError
from primia_flwr.processes.children import Child, free_port
from primia_flwr.provisioning.federation import Federation, Plan, provision
from primia_flwr.provisioning.roster import load_roster
from primia_flwr.site import check, run
from primia_flwr.site.ended import why_ended
from primia_flwr.site.log import SiteLog
from primia_flwr.site.policy import SitePolicy, load_policy
from primia_flwr.site.run import _only_one, run_site
from tests.provisioning.shown_certificate import shown_certificate


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    plan = Plan(name="fl", sites=["munich"], server="127.0.0.1", port=free_port())
    return provision(plan, tmp_path_factory.mktemp("check") / "fl")


@pytest.fixture
def policy(federation: Federation) -> SitePolicy:
    return load_policy(federation.kits["munich"] / "site.yaml")


@pytest.fixture
def server(federation: Federation) -> Iterator[None]:
    """An HTTPS server with the SuperLink's certificate."""

    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    port = int(federation.roster.superlink.rpartition(":")[2])
    http = HTTPServer(("127.0.0.1", port), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(federation.files.certificate, federation.files.key)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield
    http.shutdown()
    http.server_close()


def test_keys_of_a_fresh_kit_are_ready(policy: SitePolicy) -> None:
    assert check.check_key(policy, "supernode_key").ok
    assert check.check_key(policy, "identity_key").ok


def test_open_missing_and_swapped_keys_are_named(policy: SitePolicy) -> None:
    key = policy.path("supernode.key")
    key.chmod(0o644)
    finding = check.check_key(policy, "supernode_key")
    key.chmod(0o600)
    assert (finding.ok, finding.remedy) == (False, f"run chmod 600 {key}")
    policy.supernode_key = "identity.key"
    assert "is no P-384 key" in check.check_key(policy, "supernode_key").found
    policy.supernode_key = "nowhere.key"
    assert "nowhere.key: No such file" in check.check_key(policy, "supernode_key").found


def test_certificate_is_valid_only_in_its_time(policy: SitePolicy) -> None:
    now = datetime.now(UTC)
    assert check.check_certificate(policy).ok
    assert not check.check_certificate(policy, now=now + timedelta(days=3651)).ok
    assert not check.check_certificate(policy, now=now - timedelta(hours=2)).ok
    soon = check.check_certificate(policy, now=now + timedelta(days=3630))
    assert soon.ok
    assert "primia site ca ca.crt" in soon.remedy


def test_link_and_clock_over_tls(policy: SitePolicy, server: None) -> None:
    link, clock = check.check_link(policy)
    assert link.ok, link
    assert clock.ok, clock


def test_certificate_of_another_authority_is_one_clear_sentence(
    policy: SitePolicy, server: None, tmp_path: Path
) -> None:
    other = provision(Plan(name="x", sites=["a"], server="127.0.0.1", port=9), tmp_path / "x")
    policy.root_certificates = str(other.files.ca)
    (link,) = check.check_link(policy)
    assert not link.ok
    assert "is not one of this federation" in link.found
    assert "compare the CA fingerprint" in link.remedy


def test_an_expired_certificate_of_the_superlink_is_named(policy: SitePolicy) -> None:
    folder = policy.folder.parent
    federation = Federation(folder, load_roster(folder / "roster.yaml"), {})
    kept = federation.files.certificate.read_bytes()
    with shown_certificate(federation, days=-3):
        (link,) = check.check_link(policy)
    federation.files.certificate.write_bytes(kept)
    assert not link.ok
    assert "expired on" in link.found
    assert "(3 days ago)" in link.found
    assert "`primia federation renew`" in link.remedy


def test_a_site_does_not_start_on_an_expired_certificate(policy: SitePolicy) -> None:
    folder, said = policy.folder.parent, list[str]()
    federation = Federation(folder, load_roster(folder / "roster.yaml"), {})
    kept = federation.files.certificate.read_bytes()
    with shown_certificate(federation, days=-3), pytest.raises(FederationError) as found:
        run_site(policy.folder / "site.yaml", stop=threading.Event(), say=said.append)
    federation.files.certificate.write_bytes(kept)
    assert "expired on" in str(found.value)
    assert "ask the coordinator to run `primia federation renew`" in str(found.value)
    assert said == []
    assert list(SiteLog(policy.log_file).entries()) == []


@pytest.mark.parametrize("key", ["root_certificates", "supernode_key", "identity_key", "roster"])
def test_a_site_does_not_start_without_a_file_of_its_kit(policy: SitePolicy, key: str) -> None:
    file = policy.path(getattr(policy, key))
    kept = file.rename(file.with_suffix(".kept"))
    try:
        with pytest.raises(FederationError, match=rf"^{key}=.*{file.name} not found; expected"):
            run_site(policy.folder / "site.yaml", stop=threading.Event())
    finally:
        kept.rename(file)


@pytest.mark.parametrize("key", ["supernode_key", "identity_key"])
def test_a_site_does_not_start_on_a_key_that_others_can_read(policy: SitePolicy, key: str) -> None:
    file = policy.path(getattr(policy, key))
    file.chmod(0o640)
    try:
        with pytest.raises(FederationError, match=rf"^{key}=.* has mode 640; .*chmod 600"):
            run_site(policy.folder / "site.yaml", stop=threading.Event())
    finally:
        file.chmod(0o600)


def test_a_site_runs_once(policy: SitePolicy) -> None:
    with _only_one(policy):
        secret = policy.state_folder / "executor.secret"
        secret.write_bytes(b"of the first")
        with pytest.raises(FederationError, match=r"state=.* is in use: .* runs for munich alre"):
            run_site(policy.folder / "site.yaml", stop=threading.Event())
        assert secret.read_bytes() == b"of the first"
        assert list(SiteLog(policy.log_file).entries()) == []
    _only_one(policy).close()


def test_a_state_that_cannot_be_written_is_named(policy: SitePolicy, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    policy.state = str(tmp_path / "file" / "state")
    with pytest.raises(FederationError, match=r"state=.*file/state cannot be written \(Not a dir"):
        _only_one(policy)


class _Ended:
    """A child that has ended: what `why_ended` looks at."""

    def __init__(self, text: str, name: str = "supernode") -> None:
        self.name, self.text, self.log_file = name, text, Path("supernode.log")

    def log_tail(self, lines: int) -> str:
        return self.text

    def poll(self) -> int:
        return 0


GRACEFUL = "INFO :      SuperNode terminated gracefully.\nINFO:     Finished server process [7]\n"


def ended(policy: SitePolicy, text: str, name: str = "supernode") -> str:
    return why_ended(policy, cast(Child, _Ended(text, name)))


def test_a_supernode_that_ends_by_a_wrong_clock_says_so(
    policy: SitePolicy, server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "set the clock" not in ended(policy, GRACEFUL)
    monkeypatch.setattr(check, "_MAX_CLOCK_DIFFERENCE", timedelta(seconds=-1))
    assert re.fullmatch(
        r"the clock of this computer is \d s from the SuperLink's; set the clock \(NTP\): .*",
        ended(policy, GRACEFUL),
    )


def test_an_end_without_a_known_reason_shows_no_line_that_is_none(policy: SitePolicy) -> None:
    text = f"ValueError: no such device\n{GRACEFUL}"
    assert ended(policy, text).endswith("supernode.log: ValueError: no such device")
    found = ended(policy, GRACEFUL, "executor")
    assert found.endswith("supernode.log: (no reason)")
    assert "`primia site check` says what is not ready" in found


def test_a_disk_that_is_full_at_the_start_is_named_with_the_state(
    policy: SitePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run, "write_atomic", full)
    words = rf"state={policy.state_folder} cannot be written \(No space left .*: free some, or corr"
    with pytest.raises(FederationError, match=words):
        run_site(policy.folder / "site.yaml", stop=threading.Event())


def test_silent_port_is_not_ready(policy: SitePolicy) -> None:
    policy.superlink = f"127.0.0.1:{free_port()}"
    (link,) = check.check_link(policy)
    assert not link.ok
    assert "Connection refused" in link.found


def test_a_proxy_that_is_wrong_is_named(
    policy: SitePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://anna:secret@127.0.0.1:{port}")
    policy.superlink = "fl.example.org:9391"
    (link,) = check.check_link(policy)
    assert link.found == (
        f"fl.example.org:9391 through the proxy 127.0.0.1:{port} of HTTPS_PROXY (without it: set "
        "NO_PROXY=fl.example.org): Connection refused"
    )


def test_the_link_goes_through_the_proxy_that_the_supernode_takes(
    policy: SitePolicy, server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        policy.superlink, ends = "fl.example.org:9391", policy.superlink.rpartition(":")

        def carry() -> None:
            here, _ = proxy.accept()
            with here, socket.create_connection((ends[0], int(ends[2]))) as there:
                asked.append(here.recv(4096))
                here.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                there.sendall(here.recv(4096))
                here.sendall(there.recv(4096))
                here.recv(4096)

        threading.Thread(target=carry, daemon=True).start()
        (link,) = check.check_link(policy)
    assert asked[0].startswith(b"CONNECT fl.example.org:9391 ")
    # The certificate is of 127.0.0.1: it came, and is not of the name that was asked for.
    assert link.found.startswith("the certificate of fl.example.org:9391 is not one of this")


def test_a_link_that_speaks_no_tls_is_told_without_words_of_a_library(policy: SitePolicy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        policy.superlink = f"127.0.0.1:{plain.getsockname()[1]}"

        def answer() -> None:
            for _asked in range(2):  # it is asked for its certificate alone, too
                here, _ = plain.accept()
                with here:
                    here.recv(4096)
                    here.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        (link,) = check.check_link(policy)
    found = re.search(r"does not speak TLS \((.*)\)$", link.found)
    assert found
    assert found[1].islower()
    assert "_ssl" not in found[1]


@pytest.mark.parametrize(("seconds", "ok"), [(0, True), (4, True), (90, False), (-90, False)])
def test_clock_difference(seconds: int, ok: bool) -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    finding = check._clock_finding("Thu, 01 Jan 2026 12:00:00 GMT", now=now)
    assert finding.ok is ok


def test_nothing_allowed_and_full_disk_and_missing_gpu(
    policy: SitePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not check.check_policy(policy).ok
    policy.allowed_experiments = ["pneumonia"]
    assert check.check_policy(policy).ok
    monkeypatch.setattr(check, "MIN_FREE_BYTES", 2**60)
    assert check.check_disk(policy).remedy == "free 2 GiB"
    policy.device = "cuda:63"
    assert "device=cuda:63 is not here" in check.check_device(policy).remedy


def test_data_is_read_and_a_broken_file_is_named(policy: SitePolicy, tmp_path: Path) -> None:
    assert check.check_data(policy)[0].remedy == "set data_root in site.yaml"
    for label in ("healthy", "ill"):
        (tmp_path / label).mkdir()
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / label / f"{label}{number}.png")
    policy.data_root, policy.data_layout = str(tmp_path), "folder"
    data, patients, doubts = check.check_data(policy)
    assert (data.ok, patients.ok) == (True, True)
    assert data.found == "6 images in 2 classes, all readable"
    assert "6 patients" in patients.found
    assert (doubts.ok, "warnings, first 3 group(s)" in doubts.found) == (True, True)
    policy.max_epsilon = 3.0
    (private,) = check.check_data(policy)[2:]
    assert (private.ok, private.found[:30]) == (False, "6 images of unknown patients, ")
    policy.patient_pattern = r"(?P<patient>healthy|ill)\d"  # as a run at this site counts them
    assert "2 patients" in check.check_data(policy)[1].found
    policy.patient_pattern = r"(?P<patient>healthy)\d"
    assert "does not match" in check.check_data(policy)[0].found
    policy.patient_pattern = ""
    (tmp_path / "ill" / "ill0.png").write_text("not an image")
    (broken,) = check.check_data(policy)
    assert not broken.ok
    assert "ill0.png" in broken.found


def test_a_site_of_one_class_is_ready(policy: SitePolicy, tmp_path: Path) -> None:
    folder = tmp_path / "scans" / "well"
    folder.mkdir(parents=True)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    policy.data_layout, policy.data_root = "folder", str(tmp_path / "scans")
    findings = check.check_data(policy)
    assert all(finding.ok for finding in findings), findings
    assert findings[0].found.startswith("3 images")


def write_images(folder: Path, count: int, *, mask: bool = False) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        shades = (0, 255) if mask else range(255)
        drawn = np.random.default_rng(number).choice(shades, (32, 32)).astype(np.uint8)
        Image.fromarray(drawn).save(folder / f"case{number}.png")


def test_a_site_of_masks_is_ready_where_its_policy_says_what_they_mean(
    policy: SitePolicy, tmp_path: Path
) -> None:
    write_images(tmp_path / "images", 3)
    write_images(tmp_path / "masks", 3, mask=True)
    policy.data_root, policy.data_layout, policy.data_task = str(tmp_path), "paired", "segmentation"
    (unnamed,) = check.check_data(policy)
    assert not unnamed.ok
    assert "data.classes=[]" in unnamed.found
    policy.data_classes = ["background", "lesion"]
    (unread,) = check.check_data(policy)  # 255 is no class
    assert not unread.ok
    assert unread.remedy == (
        f"primia data check data.root={tmp_path} data.task=segmentation data.layout=paired "
        "'data.classes=[background,lesion]' names every file"
    )
    policy.data_mask_values = [0, 255]
    findings = check.check_data(policy)
    assert all(finding.ok for finding in findings), findings
    assert findings[0].found == "3 images in 2 classes, all readable"


def test_labels_of_a_task_of_the_runs_own_code_are_not_looked_at(policy: SitePolicy) -> None:
    policy.data_root, policy.data_task = "scans", "plugin:grade"
    (finding,) = check.check_data(policy)
    assert finding.ok
    assert "only a run's own code reads labels of plugin:grade" in finding.found


def test_a_site_of_findings_is_ready(policy: SitePolicy, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 4)
    rows = [f"images/case{n}.png,p{n},{n % 2},{n // 2}" for n in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["path,patient,effusion,nodule", *rows]) + "\n")
    policy.data_manifest, policy.data_task = str(tmp_path / "list.csv"), "multilabel"
    policy.data_classes = ["effusion", "nodule"]
    findings = check.check_data(policy)
    assert all(finding.ok for finding in findings), findings
    assert findings[0].found == "4 images with 2 findings, all readable"
    policy.data_classes = ["effusion", "mass"]
    (lacking,) = check.check_data(policy)
    assert not lacking.ok
    assert "mass" in lacking.found
