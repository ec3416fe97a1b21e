"""The editing model, loaded in a thread while a scan is aligned."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omote.quiet import LOADING
from omote.rgbd.protocol import ForwardedEditor
from omote.rgbd.weights import Backend

if TYPE_CHECKING:
    from omote.head.model import HeadModel
    from omote.rgbd.model import EditingModel


class EditingThread(ForwardedEditor):
    """An `EditingModel` that loads in a thread; its first use waits until it is loaded.

    Args:
        head: function that returns the head model that the weights were trained with.
        folder: folder of the exported weights.
        backend: library that runs the networks.

    Raises:
        CheckpointError: the weights are missing or damaged; raised at the first use.
    """

    def __init__(self, head: Callable[[], HeadModel], folder: Path, backend: Backend = "auto") -> None:
        def load() -> EditingModel:
            with LOADING:
                from omote.rgbd.load import load_model

                return load_model(head(), folder, backend=backend)

        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._model = pool.submit(load)
        pool.shutdown(wait=False)

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        return self._model.result().sample_size

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the `EditingModel`."""
        return getattr(self._model.result(), method)(*arguments, **options)
