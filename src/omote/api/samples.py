"""``omote.sample``: people who never were, and the expressions that the network which drew them gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from omote.api.avatars import expressions_of
from omote.diffusion.settings import DRAW_SETTINGS, EditSettings, SamplerName
from omote.errors import AlignmentError, ConfigError
from omote.files import all_or_nothing, make_folder
from omote.formats.frame_write import as_bytes, depth_picture, save_rgbd
from omote.progress import Step
from omote.runs import Stopwatch, Value, prefixed, run_facts, write_json
from omote.types import Expression, Rgbd

AT_ONCE = 8
REST = "neutral"


@dataclass(frozen=True, kw_only=True)
class SampledPeople:
    """People who were drawn.

    Attributes:
        people: of each, the images by the expressions' names; the first is the drawn one, at rest.
        facts: the report, flat.
    """

    people: tuple[dict[str, Rgbd], ...]
    facts: dict[str, Value]

    def save(self, folder: Path | str) -> None:
        """Write person_000/neutral/ … (RGB-D frames that `omote avatar` reads), sheet.png and report.json.

        Raises:
            OutputError: one of them cannot be written.
        """
        from PIL import Image

        folder = Path(folder)
        make_folder(folder)
        for number, images in enumerate(self.people):
            for name, image in images.items():
                save_rgbd(image, folder / f"person_{number:03d}" / name)
        sheet, report = folder / "sheet.png", folder / "report.json"
        with all_or_nothing(sheet, report) as temporary:
            Image.fromarray(as_bytes(self.sheet())).save(temporary[sheet], format="PNG")
            write_json(self.facts, temporary[report])

    def sheet(self) -> Float[np.ndarray, "height width 3"]:
        """Draw a row per person: every expression's colour, then every expression's depth."""
        rows = [
            [i.rgb for i in images.values()] + [depth_picture(i) for i in images.values()] for images in self.people
        ]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)

    def summary(self) -> str:
        """Say in one line what was drawn."""
        names = ", ".join(self.people[0])
        parts = [f"{len(self.people)} people ({names})", f"{self.facts['time_s/total']:.1f} s"]
        if lost := self.facts["edit/without_a_fit"]:
            parts.append(f"{lost} without a head that fits them, edited by category alone")
        return ", ".join(parts)


def sample(
    *,
    expressions: Sequence[str | Expression] = (REST,),
    count: int = 4,
    seed: int = 0,
    intensity: float = 1.0,
    steps: int | None = None,
    sampler: SamplerName = DRAW_SETTINGS.sampler,
    guidance_scale: float = 1.0,
    weights: Path | str | None = None,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    on_step: Callable[[Step], None] | None = None,
) -> SampledPeople:
    """Draw people at rest, and edit each into the wanted expressions with the same network.

    Args:
        expressions: categories, `Expression`s, or "all"; each person's face at rest comes with them.
        count: how many people.
        seed: of the noise; person i is the same for the same seed, however many are drawn.
        intensity: [0, 1], of the expressions given by category.
        steps: of the drawing; the setting that suits it if None. An edit takes its own.
        sampler: of the drawing.
        guidance_scale: of the drawing; 1 means none.
        weights: a folder with ``autoencoder/`` and ``editor/`` that were trained to draw; the shipped one if None.
        backend: what runs the networks.
        on_step: called with progress.

    Raises:
        ConfigError: an unknown expression, or a number out of range.
        CheckpointError: weights that do not load, or that edit but do not draw.
    """
    steps = DRAW_SETTINGS.steps if steps is None else steps
    for name, value, low, high in (
        ("count", count, 1, 100_000), ("steps", steps, 1, 1000), ("guidance-scale", guidance_scale, 0, 20),
        ("seed", seed, 0, 2**62),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ConfigError(f"{name}: expected {low} to {high}, got {value}")
    wanted = [e for e in expressions_of(expressions, intensity) if e.name != REST]
    watch = Stopwatch()
    if on_step is not None:
        on_step(Step(stage="load"))
    with watch("load"):
        from omote.pipelines.rgbd import with_weights
        from omote.rgbd.load import load_model
        from omote.rgbd.weights import SHIPPED_WEIGHTS

        model = load_model(SHIPPED_WEIGHTS if weights is None else Path(weights), backend=backend)
    settings = replace(DRAW_SETTINGS, steps=steps, sampler=sampler, guidance_scale=guidance_scale)
    people: list[dict[str, Rgbd]] = []
    with watch("draw"):
        for start in range(0, count, AT_ONCE):
            if on_step is not None:
                on_step(Step(stage="draw", done=start, total=count))
            seeds = range(seed + start, seed + min(start + AT_ONCE, count))
            people += [{REST: i} for i in model.draw([Expression(category=REST)] * len(seeds), settings, seeds=seeds)]
    without_a_fit = 0
    with watch("edit"):
        for number, images in enumerate(people if wanted else []):
            if on_step is not None:
                on_step(Step(stage="edit", done=number, total=count))
            how = EditSettings(seed=seed + number)
            led = [with_weights(e, how.seed) for e in wanted]
            try:
                edits = model.edit(images[REST], led, how)
            except AlignmentError:
                # A drawn face may be none that a head fits; what it should show is known by category all the same.
                without_a_fit += 1
                edits = model.edit(images[REST], wanted, how)
            images |= {e.name: image for e, image in zip(wanted, edits, strict=True)}
    asked = {
        "expressions": [e.name for e in wanted],
        "intensity": intensity,
        "count": count,
        "seed": seed,
        "steps": steps,
        "sampler": sampler,
        "guidance_scale": guidance_scale,
        "weights": weights or "shipped",
        "backend": backend,
    }
    facts = {**prefixed("settings", asked), "edit/without_a_fit": without_a_fit, **run_facts(watch)}
    return SampledPeople(people=tuple(people), facts=facts)
