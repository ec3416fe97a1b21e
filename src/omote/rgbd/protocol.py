"""The protocol of an editor: what pipelines and studies may ask of a model that edits RGB-D images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from omote.diffusion.settings import EditSettings
    from omote.head.rest_face import RestFace
    from omote.types import Expression, Rgbd


@runtime_checkable
class Editor(Protocol):
    """What edits: `EditingModel` in this process, `EditingProcess` in another, or a stand-in of a test."""

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        ...

    def encode(self, images: Sequence[Rgbd]) -> Any:
        """Images → their latents, one per image, as `decode` takes them."""
        ...

    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """One image per expression of the person in the source, in the source's camera."""
        ...

    def decode(
        self,
        latents: Any,
        sources: Sequence[Rgbd],
        expressions: Sequence[Expression] | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """Latents → images, each in the camera of its source."""
        ...
