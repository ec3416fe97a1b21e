"""Completions of partial scans: one population of views, three networks of equal size and equal budget, and diffusion.

    omote population --out runs/views --persons 4000 --images 3 --views 5 --pose-deg 2.5 --pose-mm 4 --ict ICT_FACEKIT
    omote train volume-cpu --run runs/volume --set ict=ICT_FACEKIT
    omote train sparse-cpu --run runs/sparse --set ict=ICT_FACEKIT
    omote train part-graph-cpu --run runs/part-graph --set ict=ICT_FACEKIT
    omote train views-cpu-rgbd --run runs/views-stage-rgbd
    omote train completion-diffusion-cpu --run runs/diffusion --set ict=ICT_FACEKIT

Each has 1.5 core-hours, in which its partial scans are drawn and fitted too. A population without ICT-FaceKit needs no ``ict``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omote.completion.train import CompletionConfig
from omote.completion.train_diffusion import DiffusionCompletionConfig
from omote.engine.loop import EngineConfig
from omote.recipes.gpu import gpu_engine
from omote.recipes.tiny import ENGINE


def volume_cpu(runs: Path) -> CompletionConfig:
    """Completion by 3D convolution on a grid of 48³.

        omote train volume-cpu --run runs/volume --set ict=ICT_FACEKIT

    Hours: 1.5 of computing on one core. Score: not run to its end yet.
    """
    return CompletionConfig(
        kind="volume",
        population=runs / "views",
        side=48,
        widths=(24, 48, 80),
        engine=EngineConfig(
            total_images=200_000,
            batch_size=4,
            precision="fp32",
            learning_rate=1.5e-3,
            warmup_images=400,
            cooldown=0.5,
            ema_images=800,
            max_seconds=5_400.0,
            clock="cpu",
            log_images=400,
            checkpoint_s=300.0,
            threads=1,
        ),
    )


def sparse_cpu(runs: Path) -> CompletionConfig:
    """Completion by sparse convolution on the occupied voxels of 96³.

        omote train sparse-cpu --run runs/sparse --set ict=ICT_FACEKIT

    Hours: as `volume-cpu`. Score: not run to its end yet.
    """
    return replace(volume_cpu(runs), kind="sparse", side=96, widths=(16, 32, 48, 64))


def part_graph_cpu(runs: Path) -> CompletionConfig:
    """Completion by graph convolution, part by part and then across the parts.

        omote train part-graph-cpu --run runs/part-graph --set ict=ICT_FACEKIT

    Hours: as `volume-cpu`. Scores: docs/missing-depth.md.
    """
    return replace(volume_cpu(runs), kind="part-graph", widths=(64, 64), part_widths=(32, 48))


def completion_diffusion_cpu(runs: Path) -> DiffusionCompletionConfig:
    """Completion by diffusion of the views' latents.

        omote train completion-diffusion-cpu --run runs/diffusion --set ict=ICT_FACEKIT

    Hours: 1.5 of computing on one core, beside its first stage's .45. Scores: docs/missing-depth.md.
    """
    return DiffusionCompletionConfig(
        population=runs / "views",
        first_stage=runs / "views-stage-rgbd/export/first_stage",
        engine=replace(
            volume_cpu(runs).engine,
            batch_size=8,
            precision="auto",
            learning_rate=8e-4,
            warmup_images=800,
            ema_images=1_500,
            # Each export samples 96 scans to calibrate their spread, which takes minutes.
            checkpoint_s=1_200.0,
        ),
    )


def completion_diffusion_tiny(runs: Path) -> DiffusionCompletionConfig:
    """Completion by diffusion, 8 steps."""
    return replace(
        completion_diffusion_cpu(runs),
        first_stage=runs / "views-stage/export/first_stage",
        engine=_tiny(),
        channels=(16, 32),
        attended=(False, True),
        head_channels=16,
        context_width=16,
        num_calibration=2,
        num_prior=4,
    )


def completion_diffusion_gpu(runs: Path) -> DiffusionCompletionConfig:
    """Completion by diffusion, a network four times as wide.

    Command: ``omote train completion-diffusion-gpu --run runs/diffusion``. Hours: as `volume-gpu`. Score: not run.
    """
    return replace(
        completion_diffusion_cpu(runs),
        engine=gpu_engine(1_000_000, batch_size=32, learning_rate=4e-4),
        channels=(192, 256, 384),
        layers_per_block=2,
    )


def volume_tiny(runs: Path) -> CompletionConfig:
    """Completion by 3D convolution, 8 steps."""
    return replace(volume_cpu(runs), engine=_tiny(), side=16, widths=(4, 4, 8), num_calibration=2)


def sparse_tiny(runs: Path) -> CompletionConfig:
    """Completion by sparse convolution, 8 steps."""
    return replace(sparse_cpu(runs), engine=_tiny(), side=32, widths=(4, 4, 4, 4), num_calibration=2)


def part_graph_tiny(runs: Path) -> CompletionConfig:
    """Completion by graph convolution, 8 steps."""
    return replace(part_graph_cpu(runs), engine=_tiny(), widths=(8, 8), part_widths=(4, 8), num_calibration=2)


def _tiny() -> EngineConfig:
    return replace(ENGINE, total_images=16, batch_size=2, warmup_images=4, log_images=2)


def volume_gpu(runs: Path) -> CompletionConfig:
    """Completion by 3D convolution on a grid of 96³, three times as wide.

    Command: ``omote train volume-gpu --run runs/volume``. Hours: 6 (estimate, not run; partial scans are drawn and fitted on
    the CPU in every step, which determines them). Score: not run.
    """
    return replace(
        volume_cpu(runs),
        engine=gpu_engine(1_000_000, batch_size=32, learning_rate=1e-3),
        side=96,
        widths=(64, 128, 256),
    )


def sparse_gpu(runs: Path) -> CompletionConfig:
    """Completion by sparse convolution on 128³, three times as wide.

    Command: ``omote train sparse-gpu --run runs/sparse``. Hours: as `volume-gpu`. Score: not run.
    """
    own = volume_gpu(runs)
    return replace(sparse_cpu(runs), engine=own.engine, side=128, widths=(48, 96, 160, 192))


def part_graph_gpu(runs: Path) -> CompletionConfig:
    """Completion by graph convolution, three times as wide.

    Command: ``omote train part-graph-gpu --run runs/part-graph``. Hours: as `volume-gpu`. Score: not run.
    """
    own = volume_gpu(runs)
    return replace(part_graph_cpu(runs), engine=own.engine, widths=(192, 192), part_widths=(96, 144))


COMPLETION: dict[str, Callable[[Path], CompletionConfig | DiffusionCompletionConfig]] = {
    "volume-cpu": volume_cpu,
    "sparse-cpu": sparse_cpu,
    "part-graph-cpu": part_graph_cpu,
    "completion-diffusion-cpu": completion_diffusion_cpu,
    "completion-diffusion-tiny": completion_diffusion_tiny,
    "completion-diffusion-gpu": completion_diffusion_gpu,
    "volume-tiny": volume_tiny,
    "sparse-tiny": sparse_tiny,
    "part-graph-tiny": part_graph_tiny,
    "volume-gpu": volume_gpu,
    "sparse-gpu": sparse_gpu,
    "part-graph-gpu": part_graph_gpu,
}
