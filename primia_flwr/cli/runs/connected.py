"""The SuperLink of a federation, for a question that belongs to no run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from primia_flwr.cli.federation.status import deployment_of
from primia_flwr.flower.command import Connection


@contextmanager
def connected(name: str) -> Iterator[Connection]:
    """Yield how the SuperLink of the federation `name` is reached.

    Raises
    ------
    ConfigError
        If there is no such federation.
    """
    section = deployment_of(name)
    with TemporaryDirectory(prefix="primia-runs-") as home:
        connection = Connection(Path(home), section.superlink, Path(section.root_certificates))
        connection.write()
        yield connection
