"""The editing model in a process of its own.

Importing its libraries takes longer than aligning a scan does, and in one process the two only wait for each other; in two, they
use two cores. `EditingProcess` looks like `EditingModel` to whoever edits.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omote.diffusion.settings import EditSettings
from omote.errors import CheckpointError, OmoteError
from omote.memory import peak_memory_mb
from omote.rgbd.weights import Backend

if TYPE_CHECKING:
    from omote.head.rest_face import RestFace
    from omote.types import Expression, Rgbd


class EditingProcess:
    """An `EditingModel` that loads and edits elsewhere; it ends with its owner.

    A script that makes one must guard its own main part (``if __name__ == "__main__"``), as with every spawned process.
    """

    def __init__(self, folder: Path, backend: Backend = "auto") -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, folder, backend), daemon=True)
        self._process.start()
        theirs.close()
        self._size: int | None = None
        self.peak_memory_mb = 0.0

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels; waits until the model is loaded.

        Raises:
            CheckpointError: missing or damaged weights.
        """
        if self._size is None:
            self._size = int(self._answer())
        return self._size

    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """`EditingModel.edit`.

        Raises:
            Exception: as there.
        """
        assert self.sample_size
        self._connection.send((source, list(expressions), settings, face))
        images, self.peak_memory_mb = self._answer()
        return list(images)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            raise CheckpointError(
                f"the editing process ended without an answer (exit code {self._process.exitcode}): is memory used up?"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, folder: Path, backend: Backend) -> None:
    # An interrupt at the terminal reaches both; the owner decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from omote.rgbd.load import load_model

        model = load_model(folder, backend=backend)
        connection.send(model.sample_size)
    except OmoteError as error:
        connection.send(error)
        return
    while True:
        try:
            source, expressions, settings, face = connection.recv()
        except (EOFError, OSError):  # the owner is gone
            return
        try:
            answer: object = (model.edit(source, expressions, settings, face=face), peak_memory_mb())
        except Exception as error:  # whatever it is, it is the owner's to handle
            answer = error
        connection.send(answer)
