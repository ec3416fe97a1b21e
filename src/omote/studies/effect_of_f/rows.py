"""One row of the effect of f: its first stage, latents and generator, trained and measured at every time."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
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
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.recipes.first_stage import first_stage_cpu
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.train.autoencoder import AutoencoderTask
from omote.rgbd.train.preview import grid
from omote.studies.base import Record, Work
from omote.studies.effect_of_f.gan import FaceGenerator
from omote.studies.effect_of_f.generator import LatentGenerator
from omote.studies.effect_of_f.latents import LatentSet, encode_images, pack_population, read_latents
from omote.studies.effect_of_f.measure import FaceSet, compare, face_set
from omote.studies.effect_of_f.study import EffectOfF, factor_of
from omote.studies.effect_of_f.train_gan import GanConfig, GanTask
from omote.studies.effect_of_f.train_generator import GeneratorConfig, GeneratorTask

DRAWN_AT_ONCE = 35
SHOWN = 14
# Precision and recall look at a third neighbour.
FEWEST_PERSONS = 4
# More images than any run reaches: its time ends it.
ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Packed images, and the real faces that drawn ones are measured against.

    Attributes:
        images: of the population.
        real: held out.
        alone: indices of real faces, one per person.
        extractor: of the features.
        floor: faces that were trained on against the real ones.
    """

    images: LatentSet
    real: FaceSet
    alone: np.ndarray
    extractor: FeatureExtractor
    floor: dict[str, float]


def reference_of(config: EffectOfF, work: Work) -> Steps[Reference]:
    """Pack the population's images and measure the real faces; what is there is kept.

    Raises:
        ConfigError: the size does not fit the population, or too few persons are held out.
        JudgeError: the features' network is not installed.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    extractor = load_extractor("face_id_mean_crop")
    yield Step(stage="images")
    images = pack_population(config.population, config.size, work.out / "images", max_persons=config.max_persons)
    training, held_out = images.split(config.held_out_share)
    against = np.random.default_rng(config.seed).permutation(held_out)[: config.num_real]
    persons, alone = np.unique(images.person[against], return_index=True)
    if len(persons) < FEWEST_PERSONS:
        raise ConfigError(
            f"{config.population}: expected at least {FEWEST_PERSONS} persons to hold out; give a population of more, or a "
            f"larger held_out_share"
        )
    real = _kept(work.out / "real.npz", lambda: face_set(images.take(against), extractor))
    chosen = np.random.default_rng(config.seed).permutation(training)[: config.num_drawn]

    def floor(name: str) -> Record:
        return compare(face_set(images.take(chosen), extractor), real, extractor.name, alone=alone)

    found = yield from work.records("floor", ["real"], floor)
    return Reference(images=images, real=real, alone=alone, extractor=extractor, floor=dict(found["real"]))


def _kept(path: Path, make: Callable[[], FaceSet]) -> FaceSet:
    if not path.exists():
        made = make()
        with atomic_path(path) as temporary:
            np.savez(temporary, **vars(made))
    with np.load(path) as arrays:
        return FaceSet(**arrays)


def run_row(config: EffectOfF, row: str, out: Path, reference: Reference) -> Steps[Record]:
    """Train a row and measure it at every time; parts that are there are kept.

    Returns:
        ``marks``: the measures at each time, in order.
    """
    folder = out / "rows" / row
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder: RgbdAutoencoder | None = None
    latents = out / "images"
    if factor_of(row) > 1:
        yield from _first_stage(config, row, folder)
        autoencoder = load_pretrained(RgbdAutoencoder, folder / "first_stage/export/autoencoder").eval()
        yield Step(stage=f"{row} latents")
        latents = folder / "latents"
        encode_images(reference.images, autoencoder, latents)

    task, engine = _task_of(config, row, latents)
    run, results = folder / "generator", []
    for number, mark in enumerate(config.marks):
        path = folder / f"mark_{number}.json"
        if not path.exists():
            seconds = 60 * config.minutes * mark
            for report in train(task, replace(engine, max_seconds=seconds), run, task.config):
                yield Step(stage=row, done=round(report.seconds), total=round(60 * config.minutes))
            yield Step(stage=f"{row} measured")
            with atomic_path(path) as temporary:
                measured = _measured(config, row, folder, latents, autoencoder, reference, path.with_suffix(".png"))
                temporary.write_text(json.dumps(measured, indent=1) + "\n")
        results.append(json.loads(path.read_text()))
    if latents != out / "images":
        # Large, and made again from the first stage if ever asked for.
        shutil.rmtree(latents)
    return {"marks": results}


def _measured(
    config: EffectOfF,
    row: str,
    folder: Path,
    latents: Path,
    autoencoder: RgbdAutoencoder | None,
    reference: Reference,
    picture: Path,
) -> dict[str, float | int]:
    """A row's numbers after as much training as its generator has had."""
    run = folder / "generator"
    drawn, rate = _drawn(config, row, run / "export/generator", latents, autoencoder)
    progress = progress_of(run)
    result: dict[str, float | int] = {
        **({} if row == "gan" else {"model/f": factor_of(row)}),
        "training/minutes": progress.seconds / 60,
        "training/images": progress.images,
        "model/parameters": sum(p.numel() for p in _network(row, run / "export/generator").parameters()),
        "speed/samples_per_s": rate,
        **compare(
            face_set(drawn, reference.extractor), reference.real, reference.extractor.name, alone=reference.alone
        ),
    }
    if autoencoder is not None:
        first = progress_of(folder / "first_stage")
        result["first_stage/minutes"], result["first_stage/images"] = first.seconds / 60, first.images
        result["first_stage/parameters"] = sum(p.numel() for p in autoencoder.parameters())
    _picture(drawn[:SHOWN], picture)
    return result


def _first_stage(config: EffectOfF, row: str, folder: Path) -> Steps[None]:
    if (folder / "latents").exists():
        return
    kind: Literal["kl", "vq"] = "vq" if row.startswith("vq") else "kl"
    seconds = 60 * config.first_stage_minutes
    recipe = first_stage_cpu(folder, factor=factor_of(row), regularisation=kind, width=config.first_stage_width)
    recipe = replace(
        recipe,
        population=config.population,
        sample_size=config.size,
        # Minutes are too few for a discriminator to learn to tell anything.
        adversarial=0.0,
        engine=_engine(config, seconds=seconds, learning_rate=1.5e-3, cooldown=0.3),
    )
    for report in train(AutoencoderTask(recipe, population_heads()), recipe.engine, folder / "first_stage", recipe):
        yield Step(stage=f"{row} first stage", done=round(report.seconds), total=round(seconds))


def _engine(config: EffectOfF, *, seconds: float, learning_rate: float, cooldown: float) -> EngineConfig:
    return EngineConfig(
        total_images=ENDLESS,
        max_seconds=seconds,
        clock=config.clock,
        batch_size=config.batch_size,
        learning_rate=learning_rate,
        warmup_images=50 * config.batch_size,
        cooldown=cooldown,
        ema_images=2_000,
        checkpoint_s=60.0,
        log_images=20 * config.batch_size,
        grid_images=0,
        seed=config.seed,
        threads=config.threads,
    )


def _task_of(config: EffectOfF, row: str, latents: Path) -> tuple[GanTask | GeneratorTask, EngineConfig]:
    seconds = 60 * config.minutes
    if row == "gan":
        # Two players: no momentum, and no bound on a gradient that is the sum of both.
        engine = replace(
            _engine(config, seconds=seconds, learning_rate=5e-4, cooldown=0.0), momentum=0.0, clip_norm=1e3
        )
        gan = GanConfig(
            images=latents, engine=engine, parameters=config.parameters, held_out_share=config.held_out_share
        )
        return GanTask(gan), engine
    engine = _engine(config, seconds=seconds, learning_rate=1e-3, cooldown=0.0)
    generator = GeneratorConfig(
        latents=latents, engine=engine, parameters=config.parameters, held_out_share=config.held_out_share
    )
    return GeneratorTask(generator), engine


def _network(row: str, folder: Path) -> Any:
    return load_pretrained(FaceGenerator if row == "gan" else LatentGenerator, folder).eval()


@torch.no_grad()
def _drawn(
    config: EffectOfF, row: str, folder: Path, latents: Path, autoencoder: RgbdAutoencoder | None
) -> tuple[Tensor, float]:
    """New faces, packed, and how many a second: network and decoder together."""
    network = _network(row, folder)
    of = read_latents(latents)
    mean, std = (torch.from_numpy(np.asarray(x, np.float32)).view(1, -1, 1, 1) for x in (of.mean, of.std))
    now = time.monotonic if config.clock == "wall" else time.process_time
    start, out = now(), []
    for first in range(0, config.num_drawn, DRAWN_AT_ONCE):
        numbers = range(first, min(first + DRAWN_AT_ONCE, config.num_drawn))
        seeds = [config.seed + 1_000_003 + i for i in numbers]
        category = torch.tensor([i % len(CATEGORIES) for i in numbers])
        z = network.draw(
            category, seeds, **({} if row == "gan" else {"steps": config.steps, "sampler": config.sampler})
        )
        z = z * std + mean
        out.append(z if autoencoder is None else autoencoder.decode(z))
    return torch.cat(out), config.num_drawn / (now() - start)


def _picture(images: Tensor, path: Path) -> None:
    pixels = (grid([images]).clamp(0, 1) * 255).round().to(torch.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(temporary)
