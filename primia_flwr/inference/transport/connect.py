"""How two parties come to a channel: handshake, whose certificate it is, and a word of welcome.

The welcome is the listening side's last check made known: TLS 1.3 tells a connecting party that
its handshake is done before anybody has looked at its certificate.
"""

import re
import socket
import ssl
from collections.abc import Collection

from primia_flwr.errors import ConfigError, ProtocolError, ServiceError
from primia_flwr.inference.transport.channel import Channel, Counts, reason, say_goodbye
from primia_flwr.inference.transport.credentials import Credentials, Peer, Role
from primia_flwr.inference.transport.frames import WELCOME

VERSION = b"primia link v1"
_UNKNOWN = Peer("data-owner", "(unknown)", "")
_ALERT_SECONDS = 1.0  # for TLS' own last word to arrive
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})")


def connect(
    address: str, credentials: Credentials, *, expect: Role, timeout: float = 30.0
) -> Channel:
    """Connect to the party that listens at `address` (host:port) and has the role `expect`.

    `timeout` is for connecting, for the handshake, and then the channel's. The counts of the
    channel begin at 0 after the welcome.

    Raises
    ------
    ConfigError
        If the address is none.
    ServiceError
        If nobody listens there, its certificate is not valid for the host name, not this
        service's, not of that role or not pinned, or if it refuses this party.
    """
    host, port = split_address(address)
    try:
        plain = socket.create_connection((host, port), timeout)
        link = _secured(plain, credentials.context(server=False), host)
    except OSError as error:
        raise ServiceError(
            f"the {expect} at {address} cannot be reached ({reason(error)}); expected it to run "
            "there, with the certificate of this service for that host"
        ) from None
    channel = _identified(link, credentials, [expect], timeout, where=f" at {address}")
    try:
        spoken = bytes(channel.receive(WELCOME, at_most=64))
        if spoken != VERSION:
            raise ProtocolError(
                f"{channel.peer} speaks {spoken!r}; expected {VERSION!r}; do both parties run "
                "the same version of primia_flwr?"
            )
    except BaseException:
        channel.close()
        raise
    channel.counts = Counts()
    return channel


def answer(
    plain: socket.socket, credentials: Credentials, *, accept: Collection[Role], timeout: float
) -> Channel:
    """Return the channel to a party that has just connected; `welcome` is still to be said.

    `timeout` is for the handshake as a whole, and then the channel's.

    Raises
    ------
    ServiceError
        If the party does not show a pinned certificate of one of the roles `accept`.
    """
    plain.settimeout(timeout)
    try:
        link = _secured(plain, credentials.context(server=True), None)
    except OSError as error:
        raise ServiceError(f"it has not shown who it is ({reason(error)})") from None
    return _identified(link, credentials, accept, timeout)


def welcome(channel: Channel) -> None:
    """Tell a party that it may begin.

    Raises
    ------
    ServiceError
        If it has gone.
    """
    channel.send(WELCOME, VERSION)
    channel.counts = Counts()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`; an IPv6 address stands in brackets.

    Raises
    ------
    ConfigError
        If it has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or int(found[3]) > 65535:
        raise ConfigError(
            f"address={address!r}; expected host:port, e.g. diagnosis.example.org:9700: correct "
            "server=, provider= or listen="
        )
    return found[1] or found[2], int(found[3])


def _secured(plain: socket.socket, context: ssl.SSLContext, host: str | None) -> ssl.SSLSocket:
    """Shake hands within the socket's timeout; the listening side has no `host` to check."""
    try:
        if plain.family in (socket.AF_INET, socket.AF_INET6):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = context.wrap_socket(
            plain, server_side=host is None, server_hostname=host, do_handshake_on_connect=False
        )
    except BaseException:
        plain.close()
        raise
    try:
        link.do_handshake()
    except BaseException:
        say_goodbye(link, _ALERT_SECONDS)
        raise
    return link


def _identified(
    link: ssl.SSLSocket,
    credentials: Credentials,
    roles: Collection[Role],
    timeout: float,
    *,
    where: str = "",
) -> Channel:
    try:
        peer = credentials.identify(link.getpeercert(binary_form=True), roles)
    except ServiceError as error:
        Channel(link, _UNKNOWN, timeout=timeout).fail(f"the other side {error}")
        remedy = ": correct server= or provider=, or ask who runs it" if where else ""
        raise ServiceError(f"the other side{where} {error}{remedy}") from None
    return Channel(link, peer, timeout=timeout)
