"""Files of a run folder that appear whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its name, then give it the name.

    Raises
    ------
    DataError
        If it cannot be written; what was there before is unharmed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}); expected a writable folder "
            "with free space"
        ) from None


def write_whole_json(path: Path, content: Any) -> None:
    """Write JSON as `write_whole` does."""
    write_whole(path, json.dumps(content, indent=1) + "\n")
