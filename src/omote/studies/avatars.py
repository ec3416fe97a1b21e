"""Error of the avatars themselves: generated meshes against true ones, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from omote.config import Range
from omote.progress import Steps
from omote.studies.base import FREE, ModelStudy, PersonStudy, Results, Work

Capture = Literal["mesh", "points", "frame", "expressive"]


@dataclass(frozen=True, kw_only=True)
class AvatarSuite(PersonStudy, ModelStudy):
    """Avatars against true meshes: surface, motion, folds, crossings, teeth and recognition.

    Attributes:
        persons: number of unseen persons, of both head families if there are two.
        captures: kinds of scan: a mesh, a point cloud, a depth camera's frame, or a mesh that is not at rest.
        stressed: number of persons whose single ARKit units and pairs of expressions are measured too, captured as meshes.
        meshes: folder of a user's meshes of one head in one frame instead: neutral.* and others, each named after its expression.
    """

    NAME = "avatars"
    TINY: ClassVar[dict[str, Any]] = {"persons": 1, "captures": ("mesh",), "stressed": 0}

    captures: Annotated[tuple[Capture, ...], FREE] = ("mesh", "points", "frame", "expressive")
    stressed: Annotated[int, Range(0)] = 20
    meshes: Path | None = None

    def check(self) -> None:
        """Check the folder's meshes.

        Raises:
            ConfigError: no mesh at rest, or none with an expression.
        """
        if self.meshes is not None:
            from omote.studies.avatar_folder import meshes_of

            meshes_of(self.meshes)

    def run(self, work: Work) -> Steps[Results]:
        """Measure into ``avatars/``."""
        if self.meshes is not None:
            from omote.studies.avatar_folder import measure_folder

            return (yield from measure_folder(self, self.meshes, work))
        from omote.studies.avatar_methods import measure_avatars

        return (yield from measure_avatars(self, work))
