"""The editing model in a separate process.

Importing the model's libraries takes longer than aligning a scan, and within one process Python's global lock makes the two
take turns; two processes use two cores.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omote.errors import CheckpointError
from omote.memory import peak_memory_mb
from omote.rgbd.protocol import ForwardedEditor
from omote.rgbd.weights import Backend
from omote.shards.owned import end_with_owner, interrupts_blocked

if TYPE_CHECKING:
    from omote.head.model import HeadModel
    from omote.rgbd.model import EditingModel


class EditingProcess(ForwardedEditor):
    """An `EditingModel` that loads and edits in another process, which ends when its owner ends.

    A script that creates one must guard its main part (``if __name__ == "__main__"``), as with every spawned process.

    Args:
        head: function that returns the head model that the weights were trained with; called at the first request.
        folder: folder of the exported weights.
        backend: library that runs the networks.
    """

    def __init__(self, head: Callable[[], HeadModel], folder: Path, backend: Backend = "auto") -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, folder, backend), daemon=True)
        with interrupts_blocked():
            self._process.start()
        theirs.close()
        self._head: Callable[[], HeadModel] | None = head
        self._size: int | None = None
        self.peak_memory_mb = 0.0

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels; waits until the model is loaded.

        Raises:
            CheckpointError: the weights are missing or damaged.
        """
        if self._size is None:
            self._size = int(self._answer())
        return self._size

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the `EditingModel` in the other process."""
        assert self.sample_size
        # Sent with the first request: sending it at the start would block until the process has imported its libraries.
        head, self._head = None if self._head is None else self._head(), None
        self._connection.send((head, method, arguments, options))
        answer, self.peak_memory_mb = self._answer()
        return answer

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
    try:
        end_with_owner()
        # Where transformers is installed, diffusers imports all of it, which takes a second, and no editor needs it.
        sys.modules.setdefault("transformers", None)  # type: ignore[arg-type]
        from omote.rgbd.load import load_networks
        from omote.rgbd.model import EditingModel
        from omote.rgbd.weights import check_weights

        check_weights(folder)
        networks = load_networks(folder / "autoencoder", folder / "editor", backend=backend)
    except Exception as error:  # the owner handles every kind of error
        connection.send(error)
        return
    model: EditingModel | None = None
    connection.send(int(networks.autoencoder.config.sample_size))
    while True:
        try:
            head, method, arguments, options = connection.recv()
        except (EOFError, OSError):  # the owner has ended
            return
        model = model or EditingModel(networks, head, weights=folder)
        try:
            answer: object = (getattr(model, method)(*arguments, **options), peak_memory_mb())
        except Exception as error:
            answer = error
        connection.send(answer)
