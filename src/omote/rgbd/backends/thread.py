"""The editing model loaded in a thread, so that a scan can be aligned meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from omote.diffusion.settings import EditSettings
from omote.rgbd.weights import Backend

if TYPE_CHECKING:
    from omote.head.rest_face import RestFace
    from omote.rgbd.model import EditingModel
    from omote.types import Expression, Rgbd


class EditingThread:
    """An `EditingModel` that is waited for where it is used.

    Raises:
        CheckpointError: at the first use: missing or damaged weights.
    """

    def __init__(self, folder: Path, backend: Backend = "auto") -> None:
        def load() -> EditingModel:
            from omote.rgbd.load import load_model

            return load_model(folder, backend=backend)

        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._model = pool.submit(load)
        pool.shutdown(wait=False)

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        return self._model.result().sample_size

    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """`EditingModel.edit`."""
        return self._model.result().edit(source, expressions, settings, face=face)
