"""Who is at the other end of a link, and how everybody learns that a computation failed."""

from collections.abc import Iterator
from contextlib import contextmanager

from primia_flwr.errors import PrimiaError, ServiceError
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.credentials import Role


def expect_role(channel: Channel, role: Role) -> None:
    """Check that the certificate at the other end of a link is of this role.

    Raises
    ------
    ServiceError
        If it is of another one.
    """
    if channel.peer.role != role:
        raise ServiceError(f"{channel.peer} is at the other end of a link; expected a {role}")


@contextmanager
def tell_on_failure(*channels: Channel) -> Iterator[None]:
    """Close the links with one sentence to each other party if what is done within fails.

    They are told in this order; one that does not listen holds up the next by two seconds.
    """
    try:
        yield
    except BaseException as error:
        told = str(error) if isinstance(error, PrimiaError) else "the computation broke off"
        for channel in channels:
            channel.fail(told)
        raise
