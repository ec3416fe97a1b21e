"""Distillation of an editor to few steps, including its guidance.

A student starts as its teacher and learns to jump. ``trajectory``: from a point of the path, the guided teacher takes one of
the student's steps in several of its own, and the student's velocity must lead to the same point (Salimans & Ho, "Progressive
Distillation", ICLR 2022, algorithm 2, with steps of all lengths in one network as in Frans et al., "One Step Diffusion via
Shortcut Models", ICLR 2025). ``consistency``: the teacher takes one short step, and the student must predict the same clean
latent before and after it (Song et al., "Consistency Models", ICML 2023, algorithm 2; Luo et al., "Latent Consistency Models",
2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.config import Range
from omote.diffusion.flow import guided, noised
from omote.diffusion.objective import Objective, pseudo_huber
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import load_extended, load_pretrained
from omote.head.model import HeadModel
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.train.editor import EditorConfig, EditorTask, LatentBatch

Method = Literal["trajectory", "consistency"]


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """Settings of a distillation.

    Attributes:
        population: folder of rendered shards.
        autoencoder: folder of the teacher's first stage.
        teacher: folder of the exported editor.
        engine: length and optimiser.
        method: method of distillation (`omote.rgbd.train.distil`).
        steps: numbers of sampler steps that the student learns, all powers of two.
        teacher_steps: steps of the teacher from noise to image, a multiple of all of them.
        guidance_scale: guidance scale of the teacher, which the student learns.
        dropout: dropout of conditions, as in `EditorConfig`.
        huber: error, in standard deviations, above which the loss is absolute instead of squared.
        targets_per_source: edits trained per source.
        latents: folder of encoded latent pairs, as in `EditorConfig`.
    """

    population: Path
    autoencoder: Path
    teacher: Path
    engine: EngineConfig
    method: Method = "trajectory"
    steps: tuple[Annotated[int, Range(1)], ...] = (4, 2, 1)
    teacher_steps: Annotated[int, Range(1)] = 8
    guidance_scale: float = 1.0
    dropout: dict[str, float] = field(default_factory=lambda: {"category": 0.1, "arkit": 0.5})
    huber: float = 0.3
    targets_per_source: int = 4
    latents: Path | None = None

    def __post_init__(self) -> None:
        """Refuse numbers of steps that do not divide the teacher's.

        Raises:
            ValueError: a number of steps that does not divide the teacher's.
        """
        for count in self.steps:
            if self.teacher_steps % count:
                raise ValueError(f"teacher_steps: expected a multiple of {count}, got {self.teacher_steps}")


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """A training batch.

    Attributes:
        edits: latents, noise and conditions; ``t`` is where the jumps begin.
        length: length of the jumps in t, the same for the whole batch.
    """

    edits: LatentBatch
    length: float


class DistilModule(nn.Module):
    """The student with its loss as forward.

    Args:
        student: a `LatentEditor`, or any module with its ``context``, ``for_steps`` and ``velocity``.
        teacher: frozen teacher with the same methods.
        config: settings of the distillation.
    """

    def __init__(self, student: Any, teacher: Any, config: DistilConfig) -> None:
        super().__init__()
        self.editor = student
        # In a tuple, so that it is not part of this module's state.
        self.teacher = (teacher,)
        self.config = config

    def forward(self, batch: Jumps) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the student's jump against the teacher's steps."""
        config, edits, length = self.config, batch.edits, batch.length
        t, source = edits.t, edits.source
        z_t = noised(edits.delta, edits.noise, t)
        jump = torch.full_like(t, length)
        context = self.editor.for_steps(self.editor.context(source, edits.condition), jump)
        v = self.editor.velocity(z_t, t, source, context)
        with torch.no_grad():
            if config.method == "trajectory":
                arrived = self._walk(z_t, t, edits, length, round(config.teacher_steps * length))
                wanted = (z_t - arrived) / length
            else:
                step = 1 / config.teacher_steps
                nearer, behind = self._walk(z_t, t, edits, step, 1), t - step
                seen = self.editor.velocity(nearer, behind, source, context)
                clean = nearer - behind.view(-1, 1, 1, 1) * seen
                wanted = (z_t - clean) / t.view(-1, 1, 1, 1)
        error = (v - wanted).square()
        return pseudo_huber(error, config.huber).mean(), {"mse": error.detach().mean()}

    def _walk(self, z: Tensor, t: Tensor, edits: LatentBatch, length: float, count: int) -> Tensor:
        """The guided teacher's z after ``count`` steps over ``length``."""
        (teacher,) = self.teacher
        wanted = teacher.context(edits.source, edits.condition)
        free = teacher.context(edits.source, edits.condition.unconditional())
        velocity = guided(
            lambda z, t: teacher.velocity(z, t, edits.source, wanted),
            lambda z, t: teacher.velocity(z, t, edits.source, free),
            self.config.guidance_scale,
        )
        for i in range(count):
            z = z - length / count * velocity(z, t - length * i / count)
        return z


class DistilTask(BaseTask):
    """Distillation as an `omote.engine.loop.Task`."""

    module: DistilModule

    def __init__(self, config: DistilConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        teacher = load_pretrained(LatentEditor, config.teacher).eval().requires_grad_(False)
        torch.manual_seed(config.engine.seed)
        student = load_extended(
            LatentEditor, config.teacher, few_steps=True, folded_guidance=float(config.guidance_scale)
        )
        # The teacher's data, but never without any condition: the guidance is part of the student.
        self.edits = EditorTask(
            EditorConfig(
                population=config.population,
                autoencoder=config.autoencoder,
                engine=config.engine,
                objective=Objective(prediction=teacher.config.prediction),
                dropout=config.dropout,
                drop_everything=0.0,
                targets_per_source=config.targets_per_source,
                start_from=config.teacher,
                latents=config.latents,
            ),
            heads,
        )
        # The locator stays the teacher's, as do weights that no path of the loss reaches.
        student.locator.requires_grad_(False)
        self.module = DistilModule(student, teacher, config)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> Jumps:
        """A step's edits, with jumps of one length that begin on the student's grid of that length."""
        config = self.config
        edits = self.edits.batch(step, seed, size, part, parts)
        generator = step_generator(seed + 1, step)
        count = config.steps[int(torch.randint(len(config.steps), (), generator=generator))]
        if config.method == "trajectory":
            begins = torch.randint(count, (size * parts,), generator=generator)
            t = 1 - begins / count
        else:
            # Any of the teacher's times: the jump always ends at the clean latent.
            t = 1 - torch.randint(config.teacher_steps, (size * parts,), generator=generator) / config.teacher_steps
        mine = t[part * size : (part + 1) * size].to(edits.t)
        return Jumps(edits=replace(edits, t=mine), length=1 / count)

    def schedule(self, images: int) -> None:
        """Move the teacher to the student's device; nothing else changes along the run."""
        self.module.teacher[0].to(self.device)

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format, as an editor's."""
        self.averaged("editor", weights).save_pretrained(folder / "editor")

    def preview(self) -> Float[Tensor, "3 h w"] | None:
        """None: students are compared with their teacher by the suite of editors."""
        return None
