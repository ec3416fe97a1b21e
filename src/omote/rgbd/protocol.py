"""Protocols of editors of RGB-D images, as pipelines and studies use them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omote.diffusion.settings import EditSettings
    from omote.head.rest_face import RestFace
    from omote.types import Expression, Rgbd


@runtime_checkable
class Editor(Protocol):
    """An editor of RGB-D images: `EditingModel` in this process, `EditingProcess` in another, or a test's stand-in."""

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
        """Latents of `encode` → images, each in the camera of its source, which the decoder takes detail from."""
        ...


@runtime_checkable
class StudiedEditor(Editor, Protocol):
    """An `Editor` that studies measure: `EditingModel`, or a stand-in of a test."""

    @property
    def folded_guidance(self) -> float:
        """Guidance scale that distillation folded into the weights; 1 for none."""
        ...

    @property
    def expression_prior(self) -> Any:
        """Samples ARKit weights of categories (`omote.rgbd.expression_prior.ExpressionPrior`)."""
        ...

    def face_of(self, source: Rgbd) -> RestFace:
        """The person in a source image.

        Raises:
            AlignmentError: no face found.
        """
        ...


class ForwardedEditor(ABC):
    """An `Editor` that forwards its calls."""

    @abstractmethod
    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of an `EditingModel`; its exceptions are raised here."""

    def encode(self, images: Sequence[Rgbd]) -> Any:
        """`EditingModel.encode`."""
        return self.ask("encode", images)

    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """`EditingModel.edit`."""
        return list(self.ask("edit", source, expressions, settings, face=face))

    def decode(
        self,
        latents: Any,
        sources: Sequence[Rgbd],
        expressions: Sequence[Expression] | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """`EditingModel.decode`."""
        return list(self.ask("decode", latents, sources, expressions, face=face))
