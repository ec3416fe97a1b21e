"""Candidate 2: scan → CNN on 3D → V latents → diffusion conditioned on text → CNN → 3D, directly from the latents.

No image is generated on the way: the scan's surface points are voxelised, and the face is read from the edited latents. The front
view on the sheet is decoded separately.
"""

from __future__ import annotations

from omote.completion.aligned import AlignedCompletion
from omote.errors import ConfigError
from omote.head.model import HeadModel
from omote.multiview.latents_to_3d import LatentsToMesh
from omote.multiview.model import ViewEditor
from omote.pipelines.multiview import MultiviewPipeline


class LatentViewsPipeline(MultiviewPipeline):
    """Candidate 2: from 3D to latents of several views and back, without images.

    Args:
        editor: networks with an encoder of 3D points and `LatentsToMesh`.
        head: output head model.
        complete: as of `AvatarPipeline`.

    Raises:
        ConfigError: networks of candidate 1, or a head model other than the editor's.
    """

    def __init__(self, editor: ViewEditor, head: HeadModel, complete: AlignedCompletion | None = None) -> None:
        super().__init__(editor, head, complete)
        if editor.encoder is None or not isinstance(editor.to_3d, LatentsToMesh):
            raise ConfigError(
                "weights: expected an encoder of 3D points and a face read from latents (candidate2-cpu), got networks of "
                "candidate 1; give --pipeline multiview"
            )
