"""Who gets in and who does not: every stranger is turned away, and the next party still gets in."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import yaml

from primia_flwr.errors import ConfigError, ProtocolError, ServiceError
from primia_flwr.inference.transport.connect import VERSION, connect, split_address
from primia_flwr.inference.transport.credentials import Credentials, Role, load_credentials
from primia_flwr.inference.transport.listener import Listener, Places, _Caller, _in_excess
from primia_flwr.provisioning import certificates as certs
from primia_flwr.provisioning.service import (
    ServicePlan,
    provision_service,
)
from tests.inference.links import credentials, service
from tests.inference.strangers import LongAgo, context, stranger


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener(
        "127.0.0.1:0",
        credentials("model-owner"),
        accept=["data-owner"],
        handshake_timeout=0.5,
        max_connections=2,
    ) as made:
        yield made


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the listener writes down; earlier tests' strangers have been dealt with."""
    for thread in threading.enumerate():
        if thread.name.startswith("greeting"):
            thread.join(5)
    handler, found = logging.Handler(), list[str]()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("primia_flwr.inference.transport.listener")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def heard(lines: list[str], words: str) -> bool:
    """Wait for a line with these words."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if any(words in one for one in lines):
            return True
        time.sleep(0.01)
    return False


def a_party_gets_in(listener: Listener) -> None:
    with connect(
        f"127.0.0.1:{listener.port}", credentials("data-owner"), expect="model-owner", timeout=5
    ) as near:
        far = listener.accept(5)
        assert far is not None
        with far:
            near.send(1, b"hello")
            assert far.receive(1, at_most=5) == b"hello"


def knock(listener: Listener, kit: Path | Credentials) -> None:
    known = kit if isinstance(kit, Credentials) else load_credentials(kit)
    connect(f"127.0.0.1:{listener.port}", known, expect="model-owner", timeout=5).close()


def test_a_certificate_that_is_not_pinned(
    listener: Listener, lines: list[str], tmp_path: Path
) -> None:
    kit = stranger(tmp_path / "kit", "data-owner", "clinic-x")
    with pytest.raises(ServiceError, match="model-owner trial: the other side is data-owner clin"):
        knock(listener, kit)
    assert heard(lines, "clinic-x with the certificate")
    assert heard(lines, "not in peers.yaml")
    a_party_gets_in(listener)


def test_a_second_certificate_for_a_name_that_is_pinned(listener: Listener, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="which is not in"):
        knock(listener, stranger(tmp_path / "kit", "data-owner", "clinic-a"))
    a_party_gets_in(listener)


def test_a_role_that_may_not_come_in_here(lines: list[str]) -> None:
    with Listener("127.0.0.1:0", credentials("crypto-provider"), accept=["data-owner"]) as provider:
        with pytest.raises(ServiceError, match="has the role model-owner; expected data-owner"):
            connect(
                f"127.0.0.1:{provider.port}", credentials("model-owner"), expect="crypto-provider"
            )
        assert heard(lines, "has the role model-owner; expected data-owner")


def test_a_role_that_is_not_the_one_pinned(listener: Listener, tmp_path: Path) -> None:
    """The model owner, with a certificate by the leaked CA, poses as the data owner clinic-a."""
    kit = stranger(tmp_path / "kit", "data-owner", "trial")
    with pytest.raises(ServiceError, match="is data-owner trial with the certificate"):
        knock(listener, kit)


def test_an_expired_certificate(
    listener: Listener,
    lines: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(certs, "datetime", LongAgo)
    kit = stranger(tmp_path / "kit", "data-owner", "clinic-a")
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        link = context(kit).wrap_socket(plain)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_EXPIRED"):
            link.recv(1)
    assert heard(lines, "has not shown who it is (certificate has expired)")
    with pytest.raises(ServiceError, match="expected a certificate that is valid now"):
        load_credentials(kit)
    a_party_gets_in(listener)


def test_a_certificate_of_another_ca(listener: Listener, lines: list[str], tmp_path: Path) -> None:
    other = certs.make_authority("trial", days=1, of="service")
    kit = stranger(tmp_path / "kit", "data-owner", "clinic-a", signed_by=other)
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        link = context(kit).wrap_socket(plain)
        with pytest.raises(ssl.SSLError, match="ALERT"):
            link.recv(1)
    assert heard(lines, "has not shown who it is")
    # Nor does that party believe the service.
    with pytest.raises(ServiceError, match=r"cannot be reached .*(self-signed|unable to get|sign)"):
        knock(listener, kit)
    a_party_gets_in(listener)


def test_a_self_signed_certificate(listener: Listener, lines: list[str], tmp_path: Path) -> None:
    own = certs.make_authority("clinic-a", days=1)
    certs.write_certificate(tmp_path / "party.crt", own.certificate)
    certs.write_private(tmp_path / "party.key", certs.private_bytes(own.key, openssh=False))
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        link = context(tmp_path).wrap_socket(plain)
        with pytest.raises(ssl.SSLError):
            link.recv(1)
    assert heard(lines, "self-signed certificate")
    a_party_gets_in(listener)


def test_no_certificate(listener: Listener, lines: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        link = context(None).wrap_socket(plain)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            link.recv(1)
    assert heard(lines, "peer did not return a certificate")
    a_party_gets_in(listener)


def test_tls_1_2(listener: Listener, lines: list[str]) -> None:
    old = context(service().kits["kit-clinic-a"])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    plain = socket.create_connection(("127.0.0.1", listener.port))
    with plain, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        old.wrap_socket(plain)
    assert heard(lines, "unsupported protocol")
    a_party_gets_in(listener)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff"])
def test_a_client_without_tls(listener: Listener, lines: list[str], said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        plain.sendall(said)
        plain.settimeout(5)
        while plain.recv(100):
            pass
    assert heard(lines, "has not shown who it is")
    a_party_gets_in(listener)


def test_silent_strangers_keep_nobody_waiting(listener: Listener, lines: list[str]) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
        begun = time.monotonic()
        a_party_gets_in(listener)
        assert time.monotonic() - begun < 0.5, "sooner than a handshake may take"
        while len(lines) < 10 and time.monotonic() < begun + 5:
            time.sleep(0.01)
    assert all("has not shown who it is (timed out)" in one for one in lines)
    assert len(lines) == 10, "one line for each"


def test_a_trickling_handshake_ends_in_time(listener: Listener, lines: list[str]) -> None:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        plain.sendall(struct.pack(">BHH", 22, 0x301, 500))
        while not lines and time.monotonic() < begun + 5:
            with suppress(OSError):
                plain.sendall(b"\1")
            time.sleep(0.05)
    assert heard(lines, "timed out")
    assert time.monotonic() - begun < 2


def test_one_that_is_gone_before_the_handshake(listener: Listener, lines: list[str]) -> None:
    plain = socket.create_connection(("127.0.0.1", listener.port))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()
    assert heard(lines, "refused a connection from 127.0.0.1:")
    a_party_gets_in(listener)


def test_more_parties_than_may_come_in_at_once(listener: Listener, lines: list[str]) -> None:
    address, own = f"127.0.0.1:{listener.port}", credentials("data-owner")
    first = connect(address, own, expect="model-owner")
    with connect(address, own, expect="model-owner"), first:
        with pytest.raises(ServiceError, match="trial: 2 connections are open here, which is the"):
            connect(address, credentials("data-owner", "clinic-b"), expect="model-owner")
        assert heard(lines, "data-owner clinic-b: 2 connections are open here")
        far = listener.accept(5)
        assert far is not None
        far.close()
        connect(address, own, expect="model-owner").close()


def test_one_party_cannot_have_all_places(lines: list[str]) -> None:
    places: dict[Role, Places] = {"data-owner": Places(4, 2)}
    with Listener(
        "127.0.0.1:0", credentials("model-owner"), accept=["data-owner"], places=places
    ) as crowded:
        address, own = f"127.0.0.1:{crowded.port}", credentials("data-owner")
        with connect(address, own, expect="model-owner") as first:
            with connect(address, own, expect="model-owner"):
                with pytest.raises(ServiceError, match="clinic-a has 2 connections here, which is"):
                    connect(address, own, expect="model-owner")
                assert heard(lines, "data-owner clinic-a: clinic-a has 2 connections here")
                other = credentials("data-owner", "clinic-b")
                connect(address, other, expect="model-owner").close()
            first.close()
            for _ in range(3):
                far = crowded.accept(5)
                assert far is not None
                far.close()
            connect(address, own, expect="model-owner").close()  # a place was given back


def test_data_owners_cannot_have_the_model_owners_places() -> None:
    places: dict[Role, Places] = {"data-owner": Places(1, 1), "model-owner": Places(1, 1)}
    with Listener(
        "127.0.0.1:0", credentials("crypto-provider"), accept=tuple(places), places=places
    ) as crowded:
        address, expect = f"127.0.0.1:{crowded.port}", credentials("crypto-provider").own.role
        with connect(address, credentials("data-owner"), expect=expect):
            other = credentials("data-owner", "clinic-b")
            with pytest.raises(ServiceError, match="which is the limit for data-owners"):
                connect(address, other, expect=expect)
            connect(address, credentials("model-owner"), expect=expect).close()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"])
def test_more_strangers_than_are_looked_at_keep_nobody_out(listener: Listener, said: bytes) -> None:
    """Silent ones get to no handshake; of those that begin one, the oldest goes."""
    with ExitStack() as stack:
        for _ in range(140):
            line = socket.create_connection(("127.0.0.1", listener.port))
            stack.enter_context(line).sendall(said)
        a_party_gets_in(listener)
        assert sum(one.name.startswith("greeting") for one in threading.enumerate()) <= 40


def test_of_too_many_the_oldest_of_the_busiest_address_goes() -> None:
    hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.2"]
    with socket.socket() as one:
        callers = [_Caller(one, host, port, 0.0) for port, host in enumerate(hosts)]
    assert _in_excess(callers, 5) is None
    assert _in_excess(callers, 4) == callers[1]
    assert _in_excess(callers[3:], 1) == callers[3]


def test_a_closed_listener_lets_nobody_in_and_ends_its_loop(listener: Listener) -> None:
    address, names = f"127.0.0.1:{listener.port}", list[str]()
    assert listener.accept(0) is None
    thread = threading.Thread(target=lambda: names.extend(c.peer.name for c in listener))
    thread.start()
    near = connect(address, credentials("data-owner"), expect="model-owner")
    while not names:
        time.sleep(0.01)
    listener.close()
    listener.close()
    thread.join(5)
    assert names == ["clinic-a"]
    near.close()
    with pytest.raises(ServiceError, match="connection refused"):
        connect(address, credentials("data-owner"), expect="model-owner")


def test_an_address_in_use_or_malformed(listener: Listener) -> None:
    with pytest.raises(ServiceError, match="cannot be listened at"):
        Listener(f"127.0.0.1:{listener.port}", credentials("model-owner"), accept=[])
    for address in ("", "host", "host:", "host:99999", "::1:9700", "a b:1", "[x]:1", "host:1:2"):
        with pytest.raises(ConfigError, match="expected host:port"):
            split_address(address)
    assert split_address("[::1]:9700") == ("::1", 9700)
    assert split_address("diagnosis.example.org:1") == ("diagnosis.example.org", 1)


# --- The connecting side ---------------------------------------------------------------------


def served(kit: Credentials, *, role: Role = "data-owner") -> Listener:
    return Listener("127.0.0.1:0", kit, accept=[role])


def test_the_party_there_has_another_role() -> None:
    there = served(credentials("crypto-provider"))
    words = r"at 127.0.0.1:\d+ has the role crypto-provider; expected model-owner: correct server="
    with there, pytest.raises(ServiceError, match=words):
        knock(there, credentials("data-owner"))


def test_the_party_there_is_not_pinned(tmp_path: Path) -> None:
    there = served(load_credentials(stranger(tmp_path / "kit", "model-owner", "trial")))
    with there, pytest.raises(ServiceError, match="is model-owner trial with the cert"):
        knock(there, credentials("data-owner"))


def test_the_host_name_does_not_fit(tmp_path: Path) -> None:
    plan = ServicePlan("far", "diagnosis.example.org", "127.0.0.1", ["clinic"])
    kits = provision_service(plan, tmp_path / "far").kits
    there = served(load_credentials(kits["kit-model-owner"]))
    with there, pytest.raises(ServiceError, match="IP address mismatch, certificate is not valid"):
        knock(there, kits["kit-clinic"])


def test_a_data_owners_certificate_is_no_servers(tmp_path: Path) -> None:
    there = served(credentials("data-owner"), role="model-owner")
    with there, pytest.raises(ServiceError, match="cannot be reached"):
        knock(there, credentials("model-owner"))


@pytest.mark.parametrize(
    ("said", "match"), [(b"", "timed out"), (b"220 smtp.example.org\r\n", "wrong version number")]
)
def test_something_else_listens_there(said: bytes, match: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            plain, _ = server.accept()
            plain.sendall(said)
            time.sleep(1)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ServiceError, match=f"the model-owner at {address} .*{match}"):
            connect(address, credentials("data-owner"), expect="model-owner", timeout=0.3)


def test_another_version_of_the_link() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            plain, _ = server.accept()
            link = credentials("model-owner").context(server=True).wrap_socket(plain, True)
            link.sendall(struct.pack(">BQ", 255, len(VERSION)) + VERSION[:-1] + b"9")

        threading.Thread(target=answer, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ProtocolError, match="model-owner trial speaks b'primia link v9'; exp"):
            connect(address, credentials("data-owner"), expect="model-owner", timeout=5)


def test_a_party_that_was_struck_out_stays_outside(tmp_path: Path) -> None:
    kit = Path(shutil.copytree(service().kits["kit-model-owner"], tmp_path / "kit"))
    content = yaml.safe_load((kit / "peers.yaml").read_text())
    content["peers"] = [peer for peer in content["peers"] if peer["name"] != "clinic-b"]
    (kit / "peers.yaml").write_text(yaml.safe_dump(content))
    with served(load_credentials(kit)) as there:
        with pytest.raises(ServiceError, match="data-owner clinic-b with the certificate"):
            knock(there, credentials("data-owner", "clinic-b"))
        knock(there, credentials("data-owner"))
