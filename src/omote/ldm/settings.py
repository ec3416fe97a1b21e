"""How an edit is sampled; apart from the networks, which take seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from omote.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omote.head.rest_face import RestFace
    from omote.types import Expression, Rgbd

Backend = Literal["auto", "torch", "openvino"]
SamplerName = Literal["flow_euler", "flow_heun", "ddpm", "ddim", "pndm", "euler", "heun", "dpmsolver++", "unipc"]
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights"
WEIGHT_PARTS = ("autoencoder", "editor")


def check_weights(folder: Path) -> None:
    """Refuse a folder without weights, before anything long begins.

    Raises:
        CheckpointError: a part is missing.
    """
    for name in WEIGHT_PARTS:
        if not (folder / name / "config.json").is_file():
            raise CheckpointError(f"{folder / name}: expected config.json and weights; give a run's export folder")


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How to sample.

    Attributes:
        steps: of the sampler; a network evaluation each, but for `heun`s and `pndm` (`omote.ldm.sampling.sampled`).
        sampler: how they are taken.
        guidance_scale: of what is wanted; 1 means none.
        source_scale: of the source image; 1 means none, others need an editor trained with source dropout.
        guidance_interval: of t in [0, 1] in which guidance acts; 1 is pure noise.
        strength: how far the source is noised before it is sampled anew, in (0, 1]; 1 begins at pure noise (SDEdit).
        inversion_steps: the source is carried to its own noise by as many steps of the flow, without any wish, and edited from
            there; 0 begins at drawn noise.
        shift: above 1 spends more steps of the flow's samplers near the noise (Esser et al. 2024, §5.3.2), where a whole
            person's coarse features are decided; an edit has few of those.
        seed: of the noise; sample i of a batch uses seed + i, whatever the batch.
    """

    steps: int = 1
    sampler: SamplerName = "flow_euler"
    guidance_scale: float = 1.0
    source_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    strength: float = 1.0
    inversion_steps: int = 0
    shift: float = 1.0
    seed: int = 0


# A person is a draw from a distribution, and one step gives its mean. The first components of a population's latents deviate by
# some forty times the noise: even steps would draw everybody alike (Euler at 25: half of that deviation; these: 97 %).
DRAW_SETTINGS = EditSettings(steps=25, sampler="flow_heun", shift=4.0)


@runtime_checkable
class Editor(Protocol):
    """What edits: `EditingModel` here, or `EditingProcess` in a process of its own."""

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        ...

    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """All wanted expressions of one source, in its camera."""
        ...
