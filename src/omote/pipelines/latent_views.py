"""Candidate 2: scan → CNN on 3D → V latents → diffusion led by words → CNN → 3D straight from latents.

No image lies on the way: the scan's surface points are voxelised, and the face is read from the edited latents. The front view
that a sheet shows is decoded beside it.
"""

from __future__ import annotations

from omote.errors import ConfigError
from omote.head.model import HeadModel
from omote.multiview.latents_to_3d import LatentsToMesh
from omote.multiview.model import ViewEditor
from omote.pipelines.multiview import MultiviewPipeline


class LatentViewsPipeline(MultiviewPipeline):
    """Candidate 2.

    Args:
        editor: networks with an encoder of 3D points and `LatentsToMesh`.
        head: the output head.

    Raises:
        ConfigError: networks of candidate 1, or another head model than the editor's.
    """

    def __init__(self, editor: ViewEditor, head: HeadModel) -> None:
        super().__init__(editor, head)
        if editor.encoder is None or not isinstance(editor.to_3d, LatentsToMesh):
            raise ConfigError(
                "weights: expected an encoder of 3D points and a face read from latents (candidate2-cpu), got networks of "
                "candidate 1; give --pipeline multiview"
            )
