"""``omote.sample``: synthetic persons sampled by the network, and their expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float
from tyro.conf import arg

from omote.config import Range, check_ranges
from omote.diffusion.settings import DRAW_SETTINGS, EditSettings, SamplerName
from omote.errors import AlignmentError
from omote.files import all_or_nothing, make_folder
from omote.formats.frame_write import as_bytes, depth_greys, save_rgbd
from omote.head.expressions import expressions_of, with_weights
from omote.progress import Step, Steps, finish
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend, name_of
from omote.runs import Stopwatch, Value, prefixed, run_facts, write_json
from omote.types import Expression, Rgbd

if TYPE_CHECKING:
    from omote.rgbd.model import EditingModel

AT_ONCE = 8
REST = "neutral"


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Settings of the sampling of persons.

    Attributes:
        expressions: any of neutral, happy, sad, angry, surprised, fearful and disgusted, or all; neutral is always included.
        count: number of persons.
        seed: seed of the noise; another seed gives other persons. Person i is the same for every count.
        intensity: strength of the expressions given by name, 0 to 1.
        steps: number of sampler steps; more steps are slower. An edit takes one step.
        sampler: name of the sampler.
        guidance_scale: scale of classifier-free guidance; above 1 follows the category more closely, with less variety; 1
            means none.
        weights: folder with autoencoder/ and editor/ trained to sample persons, instead of the shipped weights.
        backend: library that runs the networks.
    """

    expressions: Annotated[tuple[str | Expression, ...], arg(constructor=tuple[str, ...], metavar="NAME ...")] = (REST,)
    count: Annotated[int, Range(1, 100_000)] = 4
    seed: Annotated[int, Range(0, 2**62)] = 0
    intensity: Annotated[float, Range(0, 1)] = 1.0
    steps: Annotated[int, Range(1, 1000)] = DRAW_SETTINGS.steps
    sampler: SamplerName = DRAW_SETTINGS.sampler
    guidance_scale: Annotated[float, Range(0, 20)] = 1.0
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class SampledPeople:
    """Sampled persons.

    Attributes:
        people: images of each person by expression; the first one is the sampled image at rest.
        facts: flat report.
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
        """A picture with two rows per person: colour and depth of every expression."""
        rows = [[i.rgb for i in images.values()] + [depth_greys(i) for i in images.values()] for images in self.people]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)

    def summary(self) -> str:
        """The number of persons and their expressions in one line."""
        names = ", ".join(self.people[0])
        parts = [f"{len(self.people)} people ({names})", f"{self.facts['time_s/total']:.1f} s"]
        if lost := self.facts["edit/without_a_fit"]:
            parts.append(f"{lost} without a head that fits them, edited by category alone")
        return ", ".join(parts)


def sample(settings: SampleSettings | None = None, *, on_step: Callable[[Step], None] | None = None) -> SampledPeople:
    """Sample persons at rest, and edit each into the requested expressions with the same network.

    Args:
        settings: settings of the sampling; if None, the defaults of `SampleSettings`.
        on_step: function called with each step.

    Raises:
        ConfigError: an unknown expression.
        CheckpointError: weights that do not load, or that cannot sample persons.
    """
    return finish(_sample(settings or SampleSettings()), on_step)


def _sample(settings: SampleSettings) -> Steps[SampledPeople]:
    wanted = [e for e in expressions_of(settings.expressions, settings.intensity) if e.name != REST]
    watch = Stopwatch()
    yield Step(stage="load")
    with watch("load"):
        from omote.head.shipped import shipped_head
        from omote.rgbd.load import load_model

        model = load_model(
            shipped_head(), SHIPPED_WEIGHTS if settings.weights is None else settings.weights, backend=settings.backend
        )
    with watch("draw"):
        people = yield from _drawn(model, settings)
    without_a_fit = 0
    with watch("edit"):
        for number, images in enumerate(people if wanted else []):
            yield Step(stage="edit", done=number, total=settings.count)
            how = EditSettings(seed=settings.seed + number)
            try:
                edits = model.edit(images[REST], [with_weights(e, how.seed) for e in wanted], how)
            except AlignmentError:
                # A head model may not fit a sampled face; an edit by category alone needs none.
                without_a_fit += 1
                edits = model.edit(images[REST], wanted, how)
            images |= {e.name: image for e, image in zip(wanted, edits, strict=True)}
    asked = {**vars(settings), "expressions": [e.name for e in wanted], "weights": name_of(settings.weights)}
    facts = {**prefixed("settings", asked), "edit/without_a_fit": without_a_fit, **run_facts(watch)}
    return SampledPeople(people=tuple(people), facts=facts)


def _drawn(model: EditingModel, settings: SampleSettings) -> Steps[list[dict[str, Rgbd]]]:
    """Each person's image at rest, by its name."""
    how = replace(DRAW_SETTINGS, steps=settings.steps, sampler=settings.sampler, guidance_scale=settings.guidance_scale)
    people: list[dict[str, Rgbd]] = []
    for start in range(0, settings.count, AT_ONCE):
        yield Step(stage="draw", done=start, total=settings.count)
        seeds = range(settings.seed + start, settings.seed + min(start + AT_ONCE, settings.count))
        people += [{REST: i} for i in model.draw([Expression(category=REST)] * len(seeds), how, seeds=seeds)]
    return people
