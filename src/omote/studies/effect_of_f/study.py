"""The effect of f: diffusion behind first stages of f = 1 … 32 at equal training time and network size (Rombach et al., §4.1).

Each row trains a denoiser of the same number of parameters for the same time on its own latents, and is measured at the same
times: `omote.studies.effect_of_f.measure` says what is measured. ``pixel`` is f = 1, diffusion of the images themselves; ``gan``
a small adversarial generator of that size. The time of a first stage is counted apart and stated.

Work is kept per part: images packed, first stage, latents, generator, and a file per time of measurement. A killed run goes on
where it was; rows may be run by several processes at once into one folder, and whoever ends last has the whole table.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from omote.config import Range
from omote.diffusion.settings import SamplerName
from omote.engine.checkpoint import progress_of
from omote.engine.loop import EngineConfig, train
from omote.engine.weights import load_pretrained
from omote.errors import ConfigError
from omote.evaluation.face_features import Extractor, face_features
from omote.evaluation.figures import axis_over, bar_chart, figure, line_chart
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.progress import Step
from omote.recipes.first_stage import FACTORS, first_stage_cpu
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.train.autoencoder import AutoencoderTask
from omote.rgbd.train.preview import grid
from omote.studies.effect_of_f.gan import FaceGenerator
from omote.studies.effect_of_f.generator import LatentGenerator
from omote.studies.effect_of_f.latents import LatentSet, encode_images, pack_population, read_latents
from omote.studies.effect_of_f.measure import FaceSet, compare, face_set
from omote.studies.effect_of_f.train_gan import GanConfig, GanTask
from omote.studies.effect_of_f.train_generator import GeneratorConfig, GeneratorTask

ROWS = ("pixel", *(f"{kind}-f{f}" for kind in ("kl", "vq") for f in FACTORS), "gan")
DEFAULT_ROWS = ("pixel", *(f"kl-f{f}" for f in FACTORS), "gan")
DRAWN_AT_ONCE = 35
SHOWN = 14
# Precision and recall look at a third neighbour.
FEWEST_PERSONS = 4
# What no run reaches: its time ends it.
ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class EffectOfF:
    """The study.

    Attributes:
        population: folder of rendered shards.
        size: pixels of a side, a whole fraction of the shards'.
        rows: of `ROWS`; each may be run alone.
        minutes: that each generator trains.
        first_stage_minutes: that each first stage trains, beside them.
        first_stage_width: of its layers.
        marks: shares of ``minutes`` at which generators are measured.
        clock: of all minutes: on the wall, or of computing, which other work on a machine does not change.
        parameters: of each generator, within a few percent.
        batch_size: images per step.
        max_persons: of the population; 0 for all.
        held_out_share: of the persons: nothing trains on them, all is measured against them.
        num_real: faces held out that are measured against, at most.
        num_drawn: faces per measurement, over the categories in turn.
        steps: of the sampler.
        sampler: by name.
        seed: of everything drawn.
        threads: of each process; 0 leaves torch's own choice.
    """

    population: Path
    size: Annotated[int, Range(16)] = 64
    rows: tuple[str, ...] = DEFAULT_ROWS
    minutes: float = 10.0
    first_stage_minutes: float = 6.0
    first_stage_width: int = 32
    marks: tuple[Annotated[float, Range(0, 1)], ...] = (0.125, 0.25, 0.5, 1.0)
    clock: Literal["wall", "cpu"] = "wall"
    parameters: int = 1_000_000
    batch_size: int = 16
    max_persons: int = 1600
    held_out_share: float = 0.2
    num_real: int = 1000
    num_drawn: int = 350
    steps: int = 10
    sampler: SamplerName = "dpmsolver++"
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if unknown := [row for row in self.rows if row not in ROWS]:
            raise ValueError(f"rows: expected some of {', '.join(ROWS)}, got {unknown[0]}")
        if list(self.marks) != sorted(set(self.marks)) or not self.marks or self.marks[0] <= 0:
            raise ValueError(f"marks: expected growing shares of the minutes, got {self.marks}")


def study_f(config: EffectOfF, out: Path, *, extractor: Extractor | None = None) -> Iterator[Step]:
    """Run the study's rows into ``out``; after each, `write_results` of all that are whole.

    Args:
        config: the study.
        out: folder of everything; made if missing.
        extractor: of the features; `face_features` if None.

    Raises:
        JudgeError: the features' network is not installed.
        ConfigError: the size does not fit the population or a row.
    """
    for row in config.rows:
        if factor_of(row) > config.size // 2:
            raise ConfigError(f"{row}: images of {config.size} pixels leave no latent; give a larger size")
    if config.threads:
        torch.set_num_threads(config.threads)
    extractor = extractor or face_features()
    yield Step(stage="images")
    images = pack_population(config.population, config.size, out / "images", max_persons=config.max_persons)
    training, held_out = images.split(config.held_out_share)
    held_against = np.random.default_rng(config.seed).permutation(held_out)[: config.num_real]
    if len(np.unique(images.person[held_against])) < FEWEST_PERSONS:
        raise ConfigError(
            f"{config.population}: expected at least {FEWEST_PERSONS} persons to hold out; give a population of more, or a "
            f"larger held_out_share"
        )
    reference = _Reference(
        real=_kept(out / "real.npz", lambda: face_set(images.take(held_against), extractor)),
        alone=np.unique(images.person[held_against], return_index=True)[1],
        extractor=extractor,
    )
    floor = out / "real.json"
    if not floor.exists():
        chosen = np.random.default_rng(config.seed).permutation(training)[: config.num_drawn]
        _write(floor, reference.compared(images.take(chosen)))
    for row in config.rows:
        yield from _run_row(config, row, out, images, reference)
        write_results(config, out, extractor.name)


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """What drawn faces are held against, and which of these are of different persons."""

    real: FaceSet
    alone: np.ndarray
    extractor: Extractor

    def compared(self, images: Tensor) -> dict[str, float]:
        return compare(face_set(images, self.extractor), self.real, self.extractor.name, alone=self.alone)


def _kept(path: Path, make: Callable[[], FaceSet]) -> FaceSet:
    if not path.exists():
        made = make()
        with atomic_path(path) as temporary:
            np.savez(temporary, **vars(made))
    with np.load(path) as arrays:
        return FaceSet(**arrays)


def factor_of(row: str) -> int:
    """By how much a row's first stage shrinks a side."""
    return int(row.partition("-f")[2] or 1)


def _run_row(config: EffectOfF, row: str, out: Path, images: LatentSet, reference: _Reference) -> Iterator[Step]:
    folder = out / "rows" / row
    marks = [folder / f"mark_{i}.json" for i in range(len(config.marks))]
    if all(path.exists() for path in marks):
        return
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder: RgbdAutoencoder | None = None
    latents = out / "images"
    if factor_of(row) > 1:
        yield from _first_stage(config, row, folder)
        autoencoder = load_pretrained(RgbdAutoencoder, folder / "first_stage/export/autoencoder").eval()
        yield Step(stage=f"{row} latents")
        latents = folder / "latents"
        encode_images(images, autoencoder, latents)
    task, engine = _task_of(config, row, latents)
    run = folder / "generator"
    for path, mark in zip(marks, config.marks, strict=True):
        if path.exists():
            continue
        seconds = 60 * config.minutes * mark
        for report in train(task, replace(engine, max_seconds=seconds), run, task.config):
            yield Step(stage=row, done=round(report.seconds), total=round(60 * config.minutes))
        yield Step(stage=f"{row} measured")
        images_drawn, rate = _drawn(config, row, run / "export/generator", latents, autoencoder)
        progress = progress_of(run)
        result: dict[str, float | int] = {
            **({} if row == "gan" else {"f": factor_of(row)}),
            "seconds": progress.seconds,
            "images": progress.images,
            "parameters": sum(p.numel() for p in _network(row, run / "export/generator").parameters()),
            "samples_per_s": rate,
            **reference.compared(images_drawn),
        }
        if autoencoder is not None:
            first = progress_of(folder / "first_stage")
            result["first_stage_seconds"], result["first_stage_images"] = first.seconds, first.images
            result["first_stage_parameters"] = sum(p.numel() for p in autoencoder.parameters())
        _picture(images_drawn[:SHOWN], path.with_suffix(".png"))
        _write(path, result)
    if latents != out / "images":
        # Large, and made again from the first stage if ever asked for.
        shutil.rmtree(latents)


def _first_stage(config: EffectOfF, row: str, folder: Path) -> Iterator[Step]:
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


def _write(path: Path, result: Mapping[str, float | int]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(dict(result), indent=1) + "\n")


def results_of(config: EffectOfF, out: Path) -> dict[str, list[dict[str, float | int]]]:
    """Every measured time of every row that has all of them, whoever ran it."""
    found = {}
    for row in ROWS:
        marks = [out / "rows" / row / f"mark_{i}.json" for i in range(len(config.marks))]
        if all(path.exists() for path in marks):
            found[row] = [json.loads(path.read_text()) for path in marks]
    return found


def write_results(config: EffectOfF, out: Path, features: str) -> None:
    """``table.csv``, ``metrics.json`` (``<metric>/<row>`` at the end, ``.../<share of the time>`` before) and ``figure.svg``."""
    rows = results_of(config, out)
    if not rows:
        return
    real: dict[str, float | int] = json.loads((out / "real.json").read_text())
    flat = {f"{key}/real": value for key, value in real.items()}
    for row, marks in rows.items():
        for share, mark in zip(config.marks, marks, strict=True):
            end = "" if share == config.marks[-1] else f"/{share:g}"
            flat |= {f"{key}/{row}{end}": value for key, value in mark.items()}
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(flat, indent=2, sort_keys=True) + "\n")
    columns = list(dict.fromkeys(key for marks in rows.values() for mark in marks for key in mark))
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *columns])
        for row, marks in {"real": [real], **rows}.items():
            for mark in marks:
                writer.writerow([row, *(f"{mark[c]:.5g}" if c in mark else "" for c in columns)])
    key = f"fd/{features}"
    lines = {row: [(mark["seconds"] / 60, mark[key]) for mark in marks] for row, marks in rows.items()}
    every = [point for points in lines.values() for point in points]
    speeds = {row: marks[-1]["samples_per_s"] for row, marks in rows.items()}
    x = axis_over("minutes of training", [a for a, _ in every], logarithmic=True)
    y = axis_over(f"{key} (lower is better)", [real[key], *(b for _, b in every)], logarithmic=True)
    charts = [
        line_chart("Fréchet distance at equal time and size", lines, x, y, {"real": real[key]}),
        bar_chart("drawing speed", speeds, axis_over("faces per second", list(speeds.values()), logarithmic=True)),
    ]
    with atomic_path(out / "figure.svg") as temporary:
        temporary.write_text(figure(charts), encoding="utf-8")


def tiny_study(population: Path) -> EffectOfF:
    """Seconds on any machine, for tests; the results mean nothing."""
    return EffectOfF(
        population=population,
        size=32,
        rows=("pixel", "kl-f4", "gan"),
        minutes=0.02,
        first_stage_minutes=0.01,
        first_stage_width=16,
        marks=(0.5, 1.0),
        parameters=100_000,
        batch_size=8,
        num_drawn=14,
        held_out_share=0.4,
        steps=2,
    )
