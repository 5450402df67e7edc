"""Checkpoints written beside the next round: one at a time, in order, and no error is lost.

A run that is killed meanwhile goes on from the checkpoint before, which is whole.
"""

import copy
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

from primia_flwr.errors import CheckpointError
from primia_flwr.runs.checkpoint import Checkpoint, save_checkpoint

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes into one folder; a context manager, at whose end all is written.

    Parameters
    ----------
    folder : Path
        The run's `checkpoints` folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Path] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to write, once the checkpoint before is written.

        Parameters
        ----------
        checkpoint : Checkpoint
            Its arrays must not change any more; its `state` may.

        Raises
        ------
        CheckpointError
            If the checkpoint before could not be written.
        """
        self.wait()
        kept = replace(checkpoint, state=copy.deepcopy(dict(checkpoint.state)))
        self._pending = self._pool.submit(save_checkpoint, self._folder, kept)

    def wait(self) -> None:
        """Return when all is written.

        Raises
        ------
        CheckpointError
            If it could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        """Wait; where the run has failed already, its own error is the one that is told."""
        try:
            self.wait()
        except CheckpointError as lost:
            if error is None:
                raise
            logger.error("%s", lost)
        finally:
            self._pool.shutdown()
