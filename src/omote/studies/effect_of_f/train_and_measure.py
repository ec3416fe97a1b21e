"""One row of the effect of f: its first stage, latents and generator, trained and measured at every time."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from omote.engine.checkpoint import progress_of
from omote.engine.loop import EngineConfig, train
from omote.engine.weights import load_pretrained
from omote.errors import ConfigError
from omote.evaluation.features import FeatureExtractor, load_extractor
from omote.files import atomic_path
from omote.formats.frame_write import as_bytes
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.recipes.first_stage import first_stage_cpu
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.train.autoencoder import AutoencoderTask
from omote.rgbd.train.preview import grid
from omote.studies.base import Record, Work
from omote.studies.effect_of_f.gan import FaceGenerator, GanTask
from omote.studies.effect_of_f.generator import GeneratorTask, LatentGenerator
from omote.studies.effect_of_f.latents import LatentSet, encode_images, pack_population, read_latents
from omote.studies.effect_of_f.measure import FaceSet, compare, face_set
from omote.studies.effect_of_f.study import EffectOfF, factor_of
from omote.studies.trained_editors import ENDLESS

DRAWN_AT_ONCE = 35
SHOWN = 14
# Precision and recall use the third neighbour.
FEWEST_PERSONS = 4


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Packed images of a population, and the real faces that generated ones are compared with.

    Attributes:
        images: packed images of the population.
        real: held-out faces.
        alone: indices of real faces, one per person.
        extractor: extractor of the features.
    """

    images: LatentSet
    real: FaceSet
    alone: np.ndarray
    extractor: FeatureExtractor

    def compared(self, drawn: Tensor) -> dict[str, float]:
        """The measures of generated faces."""
        return compare(face_set(drawn, self.extractor), self.real, self.extractor.name, alone=self.alone)


def reference_of(config: EffectOfF, work: Work) -> Steps[tuple[Reference, Record]]:
    """Pack the population's images and measure the real faces; existing results are kept.

    Returns:
        The reference, and the measures of real training faces against it: the floor of each distance.

    Raises:
        ConfigError: the size does not fit the population, or too few persons are held out.
        JudgeError: the features' network is not installed.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    extractor = load_extractor("face_id_mean_crop")
    yield Step(stage="images")
    with work.lock("images"):
        images = pack_population(config.population, config.size, work.out / "images", max_persons=config.max_persons)
    training, held_out = images.split(config.held_out_share)
    against = np.random.default_rng(config.seed).permutation(held_out)[: config.num_real]
    persons, alone = np.unique(images.person[against], return_index=True)
    if len(persons) < FEWEST_PERSONS:
        raise ConfigError(
            f"{config.population}: expected at least {FEWEST_PERSONS} persons to hold out; give a population of more, or a "
            f"larger held_out_share"
        )
    path = work.out / "real.npz"
    if not path.exists():
        with atomic_path(path) as temporary:
            np.savez(temporary, **vars(face_set(images.take(against), extractor)))
    with np.load(path) as arrays:
        reference = Reference(images=images, real=FaceSet(**arrays), alone=alone, extractor=extractor)
    chosen = np.random.default_rng(config.seed).permutation(training)[: config.num_drawn]
    floor = yield from work.records("floor", ["real"], lambda name: reference.compared(images.take(chosen)))
    return reference, floor["real"]


def run_row(config: EffectOfF, row: str, out: Path, reference: Reference) -> Steps[Record]:
    """Train a row and measure it at every time; existing parts are kept.

    Returns:
        ``marks``: the measures at each time, in order.
    """
    folder = out / "rows" / row
    folder.mkdir(parents=True, exist_ok=True)
    latents, autoencoder = out / "images", None
    if factor_of(row) > 1:
        latents = folder / "latents"
        if not latents.exists():
            yield from _first_stage(config, row, folder)
        autoencoder = load_pretrained(RgbdAutoencoder, folder / "first_stage/export/autoencoder").eval()
        yield Step(stage=f"{row} latents")
        encode_images(reference.images, autoencoder, latents)

    kind = GanTask if row == "gan" else GeneratorTask
    task = kind(latents, parameters=config.parameters, held_out_share=config.held_out_share, seed=config.seed)
    engine = _engine(config, learning_rate=1e-3)
    if row == "gan":
        # Two players: no momentum, and no limit on a gradient that is the sum of both.
        engine = replace(engine, learning_rate=5e-4, momentum=0.0, clip_norm=1e3)
    results = []
    for number, mark in enumerate(config.marks):
        path = folder / f"mark_{number}.json"
        if not path.exists():
            seconds = 60 * config.minutes * mark
            for report in train(task, replace(engine, max_seconds=seconds), folder / "generator", config):
                yield Step(stage=row, done=round(report.seconds), total=round(60 * config.minutes))
            yield Step(stage=f"{row} measured")
            drawn, measured = _measured(config, row, folder, read_latents(latents), autoencoder, reference)
            with atomic_path(path.with_suffix(".png")) as temporary:
                Image.fromarray(as_bytes(grid([drawn[:SHOWN]]).permute(1, 2, 0).numpy())).save(temporary)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(measured, indent=1) + "\n")
        results.append(json.loads(path.read_text()))
    if autoencoder is not None:
        # Latents are large, and can be made again from the first stage.
        shutil.rmtree(latents)
    return {"marks": results}


def _first_stage(config: EffectOfF, row: str, folder: Path) -> Steps[None]:
    kind: Literal["kl", "vq"] = "vq" if row.startswith("vq") else "kl"
    seconds = 60 * config.first_stage_minutes
    recipe = replace(
        first_stage_cpu(folder, factor=factor_of(row), regularisation=kind, width=config.first_stage_width),
        population=config.population,
        sample_size=config.size,
        # Minutes are too few for a discriminator to learn anything useful.
        adversarial=0.0,
        engine=replace(_engine(config, learning_rate=1.5e-3), max_seconds=seconds, cooldown=0.3),
    )
    for report in train(AutoencoderTask(recipe, population_heads()), recipe.engine, folder / "first_stage", recipe):
        yield Step(stage=f"{row} first stage", done=round(report.seconds), total=round(seconds))


def _engine(config: EffectOfF, *, learning_rate: float) -> EngineConfig:
    return EngineConfig(
        total_images=ENDLESS,
        clock=config.clock,
        batch_size=config.batch_size,
        # The speed of other number formats differs by row and machine, so compute is measured in float32.
        precision="fp32",
        learning_rate=learning_rate,
        warmup_images=50 * config.batch_size,
        cooldown=0.0,
        ema_images=2_000,
        checkpoint_s=60.0,
        log_images=20 * config.batch_size,
        grid_images=0,
        seed=config.seed,
        threads=config.threads,
    )


@torch.no_grad()
def _measured(
    config: EffectOfF,
    row: str,
    folder: Path,
    latents: LatentSet,
    autoencoder: RgbdAutoencoder | None,
    reference: Reference,
) -> tuple[Tensor, dict[str, float | int]]:
    """Generated faces as packed images, and a row's measures after its generator's training so far."""
    network: Any = load_pretrained(
        FaceGenerator if row == "gan" else LatentGenerator, folder / "generator/export/generator"
    ).eval()
    mean, std = latents.units
    now = time.monotonic if config.clock == "wall" else time.process_time
    start, parts = now(), []
    for numbers in torch.arange(config.num_drawn).split(DRAWN_AT_ONCE):
        seeds = [config.seed + 1_000_003 + i for i in numbers.tolist()]
        z = network.draw(numbers % len(CATEGORIES), seeds, steps=config.steps, sampler=config.sampler) * std + mean
        parts.append(z if autoencoder is None else autoencoder.decode(z))
    drawn, rate = torch.cat(parts), config.num_drawn / (now() - start)

    progress = progress_of(folder / "generator")
    result: dict[str, float | int] = {
        **({} if row == "gan" else {"model/f": factor_of(row)}),
        "training/minutes": progress.seconds / 60,
        "training/images": progress.images,
        "model/parameters": sum(p.numel() for p in network.parameters()),
        # Time of network and decoder together.
        "speed/samples_per_s": rate,
        **reference.compared(drawn),
    }
    if autoencoder is not None:
        first = progress_of(folder / "first_stage")
        result["first_stage/minutes"], result["first_stage/images"] = first.seconds / 60, first.images
        result["first_stage/parameters"] = sum(p.numel() for p in autoencoder.parameters())
    return drawn, result
