"""The software in a kit, and what its README says of it."""

import hashlib
from pathlib import Path

from primia_flwr.provisioning.kit.wheel import make_wheel

_WHEEL = """It is in this kit:

       sha256sum {wheel}
       python3 -m venv ../site-env && ../site-env/bin/pip install ./{wheel}

   The SHA-256 must be `{digest}`.
   Who made this kit put it there, and this software is what protects you from the others. So ask
   somebody else whom you trust for the hash of this version, or read the code in the wheel.
   Never install it by its name from an index: whoever has the name there runs code here."""
NO_SOFTWARE = """Take a checkout, or a wheel's file, from
   somebody you trust (`pip install ./primia-flwr`), never its name from an index."""


def put_software(kit: Path) -> str:
    """Put the wheel into a kit; return what its README says of it.

    Raises
    ------
    FederationError
        As `make_wheel`.
    """
    wheel, content = make_wheel()
    (kit / wheel).write_bytes(content)
    return _WHEEL.format(wheel=wheel, digest=hashlib.sha256(content).hexdigest())
