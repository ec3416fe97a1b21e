"""Stable Diffusion models side by side: `omote study stable-diffusion`.

A row per model. All draw faces of held-out captions for the same cameras; the Fréchet distance is to renders of unseen persons
from those cameras. Models of depth also give the depth of true colour renders. What the VAE alone makes of true renders is the
floor of both errors; a model ``X-scratch`` is the rival of ``X``, trained from nothing for the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np

from omote.config import Range
from omote.diffusion.settings import SamplerName
from omote.evaluation.records import Row, Table
from omote.evaluation.statistics import Interval, bootstrap_mean, paired_test
from omote.progress import Steps
from omote.studies.base import PersonStudy, Record, Results, Work

if TYPE_CHECKING:
    from torch import Tensor

    from omote.geometry.rig import Rig
    from omote.images.stable_diffusion.model import DrawSettings, StableDiffusion
    from omote.multiview.data import ViewSets

VAE = Row("vae")
EXTRACTOR: Final = "efficientnet_lite0"
FD = f"fd/{EXTRACTOR}"
DEPTH, ALIGNED = "depth/mae_mm_metric", "depth/mae_mm_affine_aligned"
SCRATCH = "-scratch"
AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class StableDiffusionStudy(PersonStudy):
    """Stable Diffusion models: Fréchet distance of drawn faces, and depth of given ones, against training from nothing.

    Attributes:
        persons: number of unseen persons; each is a set of views to compare with, and a set is drawn for each.
        models: folders of trained models (a run's export).
        size: side of the images, pixels.
        steps: number of sampler steps.
        sampler: name of the sampler.
        guidance_scale: scale of guidance by the caption.
    """

    NAME = "stable-diffusion"

    persons: Annotated[int, Range(2)] = 64
    models: tuple[Path, ...]
    size: Annotated[int, Range(16)] = 64
    steps: Annotated[int, Range(1, 1000)] = 12
    sampler: SamplerName = "flow_euler"
    guidance_scale: Annotated[float, Range(0, 20)] = 1.5

    def check(self) -> None:
        """Refuse models that do not load, before the folder is claimed."""
        from omote.evaluation.features import load_extractor
        from omote.images.stable_diffusion.checkpoint import open_checkpoint

        load_extractor(EXTRACTOR)
        for folder in self.models:
            open_checkpoint(folder)

    def fingerprints(self) -> Mapping[str, str]:
        """Of the U-Nets."""
        from omote.rgbd.weights import fingerprint

        return {_name(folder): fingerprint(folder / "unet") for folder in self.models}

    def run(self, work: Work) -> Steps[Results]:
        """Measure each model."""
        meter = _Meter(self)
        folders = {_name(folder): folder for folder in self.models}

        def measure(name: str) -> Record:
            return meter.vae() if name == str(VAE) else meter.measure(folders[name])

        found = yield from work.records("models", [str(VAE), *folders], measure)
        return Results(table=tabled(found), notes=compared(found))

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """Each row's numbers."""
        rows = [str(VAE), *map(_name, self.models)]
        keys = (FD, DEPTH, ALIGNED)
        lines = [f"{'':24}" + "".join(f"{key.split('/')[1]:>24}" for key in keys)]
        for row in rows:
            cells = [numbers.get(f"{key}/{row}") for key in keys]
            lines.append(f"{row:24}" + "".join(f"{'–' if c is None else f'{c:.3f}':>24}" for c in cells))
        return "\n".join(lines)


def _name(folder: Path) -> str:
    return folder.parent.name if folder.name.startswith("export") else folder.name


def tabled(found: Mapping[str, Record]) -> Table:
    """The table: depth errors with intervals over persons."""
    table: dict[Row, dict[str, Interval | float]] = {}
    for name, record in found.items():
        table[Row(name)] = {FD: record[FD]}
        for key in (DEPTH, ALIGNED):
            if key in record:
                table[Row(name)][key] = bootstrap_mean(np.array(record[key]))
    return table


def compared(found: Mapping[str, Record]) -> dict[Row, dict[str, str | float]]:
    """Of each model of depth with a rival from nothing: p of the difference over persons."""
    return {
        Row(name): {"p_depth_vs_scratch": paired_test(np.array(record[DEPTH]), np.array(rival[DEPTH])).p_value}
        for name, record in found.items()
        if (rival := found.get(name + SCRATCH)) is not None and DEPTH in record
    }


class _Meter:
    """What all rows share: true renders, captions and the feature network."""

    def __init__(self, study: StableDiffusionStudy) -> None:
        from omote.evaluation.distribution import feature_statistics
        from omote.evaluation.features import load_extractor
        from omote.images.stable_diffusion.checkpoint import load_stable_diffusion
        from omote.images.stable_diffusion.model import DrawSettings

        self.study = study
        first = load_stable_diffusion(study.models[0])
        self.vae_model = replace(first, views=None)
        rigs = [load_stable_diffusion(folder).views for folder in study.models[1:]]
        known = [views.rig for views in [first.views, *rigs] if views is not None]
        self.extractor = load_extractor(EXTRACTOR)
        self.settings: DrawSettings = DrawSettings(
            size=study.size, steps=study.steps, sampler=study.sampler, guidance_scale=study.guidance_scale
        )
        self.sets = self._rendered(known[0] if known else None)
        self.x = self.sets.x
        self.captions = self._captions()
        self.reference = feature_statistics(self._features((self.x.flatten(0, 1)[:, :3] + 1) / 2))

    def _rendered(self, rig: Rig | None) -> ViewSets:
        """A set of views of each unseen person, with an expression."""
        from omote.datasets.view_shards import ViewShard, render_views
        from omote.geometry.rig import Rig
        from omote.head.shipped import population_heads
        from omote.multiview.data import sets_of
        from omote.rgbd.codec import shrunk

        self.rig = rig if rig is not None else Rig()
        population = replace(self.study.unseen(), rig=self.rig, size=2 * self.study.size)
        shard = ViewShard(**render_views(population, range(self.study.persons), population_heads(self.study.ict)))
        # One expression after the other, as many persons of each.
        sets = sets_of(shard, [(person, person % shard.num_images) for person in range(self.study.persons)])
        x = shrunk(sets.x.flatten(0, 1), self.study.size).unflatten(0, sets.x.shape[:2])
        return replace(sets, x=x)

    def _captions(self) -> list[str]:
        from omote.head.expressions import CATEGORIES
        from omote.rgbd.conditions.text.captions import draw_caption

        rng = np.random.default_rng([self.study.seed, 31])
        return [
            draw_caption(rng, language="en", category=CATEGORIES[int(c)], split="test").text for c in self.sets.category
        ]

    def _features(self, rgb: Tensor) -> np.ndarray:
        return self.extractor(rgb.clamp(0, 1)).cpu().numpy()

    def _distance(self, rgb: Tensor) -> float:
        from omote.evaluation.distribution import feature_statistics, frechet_distance

        return frechet_distance(feature_statistics(self._features(rgb)), self.reference)

    def vae(self) -> Record:
        """What the VAE makes of true renders: the floor of every row."""
        import torch

        from omote.images.stable_diffusion.depth import depth_image, depth_of, depth_range

        x, model = self.x.flatten(0, 1), self.vae_model
        between = depth_range(x[:, 3:4], x[:, 4:] > 0)
        with torch.no_grad():
            rgb = model.image(model.latents(x[:, :3]))
            depth = depth_of(model.image(model.latents(depth_image(x[:, 3:4], between))), between)
        return {FD: self._distance((rgb + 1) / 2), **self._depth_errors(depth)}

    def measure(self, folder: Path) -> Record:
        """A model's numbers."""
        from omote.images.stable_diffusion.checkpoint import load_stable_diffusion

        model = load_stable_diffusion(folder)
        record: dict[str, Any] = {FD: self._distance(self._drawn(model))}
        if model.views is not None and model.views.depth and not model.views.multiview:
            record |= self._depth_errors(self._depth(model))
        return record

    def _drawn(self, model: StableDiffusion) -> Tensor:
        """As many faces as there are renders, for the same cameras."""
        import torch

        from omote.multiview.train_stable_diffusion import place_of

        views = self.rig.num_views
        if model.views is not None and model.views.multiview:
            texts = self.captions
        else:
            texts = [f"{caption}, {place_of(self.rig, i)}" for caption in self.captions for i in range(views)]
        parts = []
        for i in range(0, len(texts), AT_ONCE):
            chosen = texts[i : i + AT_ONCE]
            z = model.draw(chosen, range(i, i + len(chosen)), self.settings)
            parts.append(model.shown(z)[0])
        return torch.cat(parts)

    def _depth(self, model: StableDiffusion) -> Tensor:
        """Depth of the true renders' colours, in the packed unit, by the mean range of training."""
        import torch

        from omote.multiview.train_stable_diffusion import place_of
        from omote.rgbd.codec import DEPTH_SCALE_MM

        x = self.x.flatten(0, 1)
        texts = [f"{caption}, {place_of(self.rig, i)}" for caption in self.captions for i in range(self.rig.num_views)]
        settings, parts = replace(self.settings, guidance_scale=1.0), []
        for i in range(0, len(x), AT_ONCE):
            with torch.no_grad():
                rgb = model.latents(x[i : i + AT_ONCE, :3])
            z = model.depth_latents(rgb, texts[i : i + AT_ONCE], range(i, i + len(rgb)), settings)
            depth = model.shown(torch.cat([rgb, z], dim=1))[1]
            assert depth is not None
            parts.append(depth / DEPTH_SCALE_MM)
        return torch.cat(parts)

    def _depth_errors(self, depth: Tensor) -> dict[str, list[float]]:
        """Mean errors of each person's views, in mm."""
        from omote.evaluation.metrics import affine_aligned, depth_errors
        from omote.rgbd.codec import DEPTH_SCALE_MM

        # The depth of the reference plane makes z-depths positive, which the relative errors need.
        plane = self.rig.distance_mm
        made = depth[:, 0].numpy() * DEPTH_SCALE_MM + plane
        truth = self.x.flatten(0, 1)[:, 3].numpy() * DEPTH_SCALE_MM + plane
        mask = self.x.flatten(0, 1)[:, 4].numpy() > 0
        found: dict[str, np.ndarray] = {
            DEPTH: depth_errors(made, truth, mask).mae_mm,
            ALIGNED: depth_errors(affine_aligned(made, truth, mask), truth, mask).mae_mm,
        }
        views = self.rig.num_views
        return {key: np.reshape(values, (-1, views)).mean(axis=1).tolist() for key, values in found.items()}
