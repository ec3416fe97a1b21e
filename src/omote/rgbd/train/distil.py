"""Distillation of an editor to few steps, with its guidance folded in.

A student starts as its teacher and learns to jump. ``trajectory``: from a point of the path, the guided teacher walks one of
the student's steps in several of its own; the student's velocity must lead to where it arrived (Salimans & Ho, "Progressive
Distillation", ICLR 2022, algorithm 2, with steps of all lengths in one network as in Frans et al., "One Step Diffusion via
Shortcut Models", ICLR 2025). ``consistency``: the teacher takes one short step, and the clean latent that the student sees from
before must be the one it sees from behind (Song et al., "Consistency Models", ICML 2023, algorithm 2; Luo et al., "Latent
Consistency Models", 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.config import Range
from omote.diffusion.flow import guided, noised
from omote.diffusion.objective import Objective
from omote.engine.loop import EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import load_extended, load_pretrained
from omote.head.model import HeadModel
from omote.rgbd.editor import LatentEditor
from omote.rgbd.train.editor import EditorConfig, EditorTask, LatentBatch

Method = Literal["trajectory", "consistency"]


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """A distillation.

    Attributes:
        population: folder of rendered shards.
        autoencoder: folder of the first stage that the teacher edits behind.
        teacher: folder of the exported editor.
        engine: length and optimiser.
        method: see above.
        steps: numbers of steps that the student learns to take, a power of two each.
        teacher_steps: that the teacher takes from noise to image, a multiple of all of them.
        guidance_scale: of the teacher, folded into the student.
        drop_category: share of items that see ARKit weights alone.
        drop_arkit: share that see category and intensity alone.
        huber: where the loss turns from a square into an absolute value, in deviations.
        targets_per_source: edits trained per source.
        latents: of `EditorConfig`.
    """

    population: Path
    autoencoder: Path
    teacher: Path
    engine: EngineConfig
    method: Method = "trajectory"
    steps: tuple[Annotated[int, Range(1)], ...] = (4, 2, 1)
    teacher_steps: Annotated[int, Range(1)] = 8
    guidance_scale: float = 1.0
    drop_category: float = 0.1
    drop_arkit: float = 0.5
    huber: float = 0.3
    targets_per_source: int = 4
    latents: Path | None = None

    def __post_init__(self) -> None:
        """Refuse steps that don't end where the teacher's do.

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
        length: of the jumps in t, one for the whole batch.
    """

    edits: LatentBatch
    length: float


@runtime_checkable
class FlowEditor(Protocol):
    """The part of `LatentEditor` that is distilled; a module."""

    def context(self, source: Tensor, condition: Any) -> Any:
        """What a step reads of a condition."""
        ...

    def for_steps(self, context: Any, length: Tensor) -> Any:
        """The same for steps of a length."""
        ...

    def velocity(self, z_t: Tensor, t: Tensor, source: Tensor, context: Any) -> Tensor:
        """The flow's velocity."""
        ...


class DistilModule(nn.Module):
    """The student with its loss as forward; the teacher is beside it, and no part of its state."""

    def __init__(self, student: FlowEditor, teacher: FlowEditor, config: DistilConfig) -> None:
        super().__init__()
        self.editor = student
        self.teacher = (teacher,)
        self.config = config

    def forward(self, batch: Jumps) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's jump against where the teacher arrives."""
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
        c = config.huber
        loss = (2 * c * (torch.sqrt(error + c**2) - c)).mean()
        return loss, {"mse": error.detach().mean()}

    def _walk(self, z: Tensor, t: Tensor, edits: LatentBatch, length: float, count: int) -> Tensor:
        """Where the guided teacher arrives after ``length`` in ``count`` steps."""
        (teacher,) = self.teacher
        wanted = teacher.context(edits.source, edits.condition)
        free = teacher.context(edits.source, edits.condition.dropped())
        velocity = guided(
            lambda z, t: teacher.velocity(z, t, edits.source, wanted),
            lambda z, t: teacher.velocity(z, t, edits.source, free),
            self.config.guidance_scale,
        )
        for i in range(count):
            z = z - length / count * velocity(z, t - length * i / count)
        return z


class DistilTask:
    """Distillation as a `training.engine.Task`."""

    def __init__(self, config: DistilConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        teacher = load_pretrained(LatentEditor, config.teacher).eval().requires_grad_(False)
        torch.manual_seed(config.engine.seed)
        student = load_extended(
            LatentEditor, config.teacher, few_steps=True, folded_guidance=float(config.guidance_scale)
        )
        # What the teacher was shown, without forgetting everything: guidance is folded in.
        self.edits = EditorTask(
            EditorConfig(
                population=config.population,
                autoencoder=config.autoencoder,
                engine=config.engine,
                objective=Objective(prediction=teacher.config.prediction),
                drop_category=config.drop_category,
                drop_arkit=config.drop_arkit,
                drop_both=0.0,
                targets_per_source=config.targets_per_source,
                start_from=config.teacher,
                latents=config.latents,
            ),
            heads,
        )
        # The locator is the teacher's, and so are the weights that no path of the loss reaches.
        student.locator.requires_grad_(False)
        self._student, self._teacher = student, teacher
        self._module = DistilModule(student, teacher, config)

    @property
    def module(self) -> nn.Module:
        """The student with its loss."""
        return self._module

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> Jumps:
        """A step's edits; its jumps are of one length, and begin on the student's grid of that length."""
        config = self.config
        edits = self.edits.batch(step, seed, size, part, parts)
        generator = step_generator(seed + 1, step)
        count = config.steps[int(torch.randint(len(config.steps), (), generator=generator))]
        if config.method == "trajectory":
            begins = torch.randint(count, (size * parts,), generator=generator)
            t = 1 - begins / count
        else:
            # Any of the teacher's times: the jump is always to the clean latent.
            t = 1 - torch.randint(config.teacher_steps, (size * parts,), generator=generator) / config.teacher_steps
        mine = t[part * size : (part + 1) * size].to(edits.t)
        return Jumps(edits=replace(edits, t=mine), length=1 / count)

    def schedule(self, images: int) -> None:
        """The teacher goes where the student is; nothing else changes along the run."""
        self._teacher.to(next(self._module.parameters()).device)

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format, as an editor's."""
        editor = LatentEditor.from_config(self._student.config)
        editor.load_state_dict({k.removeprefix("editor."): v.cpu() for k, v in weights.items()})
        editor.save_pretrained(folder / "editor")

    def preview(self) -> Float[Tensor, "3 h w"] | None:
        """None: what a student makes is looked at beside its teacher, by the suite that compares them."""
        return None
