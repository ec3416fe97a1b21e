r"""Candidates 1 and 2: views of a population, their first stages, denoisers, and the shared views → mesh.

    omote population --out runs/views --persons 4000 --images 3 --views 5 --pose-deg 2.5 --pose-mm 4 --ict ICT_FACEKIT
    omote train to3d-cpu --run runs/to3d --set ict=ICT_FACEKIT
    omote train views-cpu --run runs/views-stage
    omote train candidate1-cpu --run runs/candidate1
    omote train views-cpu-rgbd --run runs/views-stage-rgbd
    omote train voxels-cpu --run runs/voxels
    omote train candidate2-cpu --run runs/candidate2
    omote train to3d-cpu-latents --run runs/to3d-latents --set ict=ICT_FACEKIT

Runs lie side by side in one folder, where each finds those it depends on. A population without ICT-FaceKit needs no ``ict``. Each
candidate has 4 core-hours in total: first stage .45, 3D encoder .7, denoiser the rest; the shared views → mesh is not included.

Recipes in ``-gpu`` have eight views at 256² and wider networks. They read a population that is rendered before, because rendering
a person takes a core more than a second, and a step has up to 64.

    omote population --out runs/views-256 --persons 4000 --images 3 --views 8 --size 256 \
        --pose-deg 2.5 --pose-mm 4 --ict ICT_FACEKIT
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omote.engine.loop import EngineConfig
from omote.multiview.train_denoiser import ViewDenoiserConfig
from omote.multiview.train_first_stage import ViewFirstStageConfig
from omote.multiview.train_to_3d import ViewsToMeshConfig
from omote.multiview.train_voxels import VoxelEncoderConfig
from omote.recipes.gpu import gpu_engine
from omote.recipes.tiny import ENGINE

VIEWS_256 = "views-256"


def to3d_cpu(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh: ridge regression, a CNN's correction, and a U-Net over the face's UV map.

        omote train to3d-cpu --run runs/to3d --set ict=ICT_FACEKIT

    Hours: 1.4 of one core beside other work, and ten minutes for the regression. Scores: docs/candidates.md.
    """
    return ViewsToMeshConfig(
        population=runs / "views",
        coarse=runs / "to3d-coarse",
        engine=EngineConfig(
            total_images=30_000,
            batch_size=8,
            learning_rate=1e-3,
            warmup_images=400,
            cooldown=0.5,
            ema_images=1_000,
            log_images=400,
            checkpoint_s=300.0,
            threads=1,
        ),
    )


def to3d_cpu_volume(runs: Path) -> ViewsToMeshConfig:
    """The volumetric baseline: the same coarse face, refined by a 3D CNN over 32³ voxels.

        omote train to3d-cpu-volume --run runs/to3d-volume --set ict=ICT_FACEKIT

    Hours: as `to3d-cpu`. Score: not run to its end yet.
    """
    return replace(to3d_cpu(runs), refinement="volume")


def to3d_tiny(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh, 8 steps."""
    return replace(
        to3d_cpu(runs), engine=ENGINE, num_components=8, pooled=4, features=4, width=24, map_widths=(16, 16, 16)
    )


def views_cpu(runs: Path) -> ViewFirstStageConfig:
    """First stage of candidate 1: colour of views, KL, f = 8.

        omote train views-cpu --run runs/views-stage

    Hours: .45 of computing on one core. Scores: docs/candidates.md.
    """
    return ViewFirstStageConfig(
        population=runs / "views",
        engine=EngineConfig(
            total_images=100_000,
            batch_size=16,
            learning_rate=1.5e-3,
            ema_images=3_000,
            max_seconds=1_620.0,
            clock="cpu",
            checkpoint_s=300.0,
            threads=1,
        ),
    )


def views_cpu_rgbd(runs: Path) -> ViewFirstStageConfig:
    """First stage of candidate 2: colour and depth of views, KL, f = 8.

        omote train views-cpu-rgbd --run runs/views-stage-rgbd

    Hours: .45 of computing on one core, which its limit ends after 82,000 views. Scores: docs/candidates.md.
    """
    return replace(views_cpu(runs), modality="rgbd")


def views_tiny(runs: Path) -> ViewFirstStageConfig:
    """First stage of views, 8 steps."""
    return replace(views_cpu(runs), engine=ENGINE, learned_channels=2, widths=(16, 16), fine_width=16)


def views_tiny_rgbd(runs: Path) -> ViewFirstStageConfig:
    """First stage of views with depth, 8 steps."""
    return replace(views_tiny(runs), modality="rgbd")


def to3d_cpu_latents(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh, directly from the latents of candidate 2.

        omote train to3d-cpu-latents --run runs/to3d-latents --set ict=ICT_FACEKIT

    Begins with `to3d-cpu` behind the first stage's decoder. Hours: .5 of one core beside other work. Scores: docs/candidates.md.
    """
    config = to3d_cpu(runs)
    return replace(
        config,
        refinement="latents",
        first_stage=runs / "views-stage-rgbd/export/first_stage",
        initial=runs / "to3d/export/to_3d",
        faulty=0.3,
        decoded=0.7,
        engine=replace(config.engine, total_images=8_000, learning_rate=5e-4),
    )


def to3d_cpu_decoded(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh, from `to3d-cpu` on also trained on views decoded from noised latents by candidate 1's first stage.

        omote train to3d-cpu-decoded --run runs/to3d-decoded --set ict=ICT_FACEKIT

    Hours: .25 of one core beside other work, after `to3d-cpu`. Scores: docs/candidates.md.
    """
    config = to3d_cpu(runs)
    return replace(
        config,
        first_stage=runs / "views-stage/export/first_stage",
        initial=runs / "to3d/export/to_3d",
        drop_depth=0.5,
        engine=replace(config.engine, total_images=8_000, learning_rate=5e-4),
    )


def to3d_tiny_decoded(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh from `to3d-tiny` on, with views decoded by a first stage, 8 steps."""
    return replace(
        to3d_tiny(runs),
        first_stage=runs / "views-stage/export/first_stage",
        initial=runs / "to3d/export/to_3d",
        decoded=0.8,
    )


def to3d_tiny_latents(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh from latents, 8 steps."""
    return replace(
        to3d_tiny(runs),
        refinement="latents",
        first_stage=runs / "views-stage-rgbd/export/first_stage",
        initial=runs / "to3d/export/to_3d",
        decoded=0.5,
    )


def voxels_cpu(runs: Path) -> VoxelEncoderConfig:
    """3D encoder of candidate 2: surface points → latents of views.

        omote train voxels-cpu --run runs/voxels

    Hours: .34 of one core. Scores, as errors in deviations of the latents: .056 of the pooled channels, .26 of the learned.
    """
    return VoxelEncoderConfig(
        population=runs / "views",
        first_stage=runs / "views-stage-rgbd/export/first_stage",
        engine=EngineConfig(
            total_images=10_000,
            batch_size=4,
            learning_rate=1.5e-3,
            warmup_images=200,
            ema_images=500,
            max_seconds=2_500.0,
            clock="cpu",
            log_images=200,
            checkpoint_s=300.0,
            threads=1,
        ),
    )


def voxels_tiny(runs: Path) -> VoxelEncoderConfig:
    """3D encoder, 8 steps."""
    return replace(voxels_cpu(runs), engine=ENGINE, widths=(4, 8), view_width=16)


def candidate1_cpu(runs: Path) -> ViewDenoiserConfig:
    """Denoiser of candidate 1: V images of a person, conditioned on depth and text.

        omote train candidate1-cpu --run runs/candidate1

    Hours: 3.5 of computing on one core. Scores: docs/candidates.md.
    """
    return ViewDenoiserConfig(
        population=runs / "views",
        first_stage=runs / "views-stage/export/first_stage",
        engine=EngineConfig(
            total_images=250_000,
            batch_size=8,
            learning_rate=6e-4,
            warmup_images=1_000,
            cooldown=0.5,
            ema_images=2_000,
            max_seconds=12_600.0,
            clock="cpu",
            log_images=400,
            checkpoint_s=300.0,
            threads=1,
        ),
    )


def candidate2_cpu(runs: Path) -> ViewDenoiserConfig:
    """Denoiser of candidate 2: V latents from 3D, conditioned on text alone.

        omote train candidate2-cpu --run runs/candidate2

    Hours: 2.8 of computing on one core. Scores: docs/candidates.md.
    """
    config = candidate1_cpu(runs)
    return replace(
        config,
        first_stage=runs / "views-stage-rgbd/export/first_stage",
        encoder=runs / "voxels/export/encoder",
        depth="none",
        engine=replace(config.engine, max_seconds=10_000.0),
    )


def candidate1_tiny(runs: Path) -> ViewDenoiserConfig:
    """Denoiser of candidate 1, 8 steps, without text."""
    return replace(
        candidate1_cpu(runs),
        engine=ENGINE,
        channels=(16, 32),
        attended=(False, True),
        head_channels=16,
        context_width=32,
        num_captions=0,
    )


def candidate2_tiny(runs: Path) -> ViewDenoiserConfig:
    """Denoiser of candidate 2, 8 steps, without text."""
    own = candidate2_cpu(runs)
    return replace(candidate1_tiny(runs), first_stage=own.first_stage, encoder=own.encoder, depth=own.depth)


def views_gpu(runs: Path) -> ViewFirstStageConfig:
    """First stage of candidate 1 at 256², eight views.

    Command: ``omote train views-gpu --run runs/views-stage``. Hours: docs/candidates.md. Score: not run.
    """
    return replace(
        views_cpu(runs),
        population=runs / VIEWS_256,
        engine=gpu_engine(2_000_000, batch_size=64, learning_rate=1e-3),
        widths=(128, 192),
        fine_width=64,
    )


def views_gpu_rgbd(runs: Path) -> ViewFirstStageConfig:
    """First stage of candidate 2 at 256², eight views.

    Command: ``omote train views-gpu-rgbd --run runs/views-stage-rgbd``. Hours: as `views-gpu`. Score: not run.
    """
    return replace(views_gpu(runs), modality="rgbd")


def voxels_gpu(runs: Path) -> VoxelEncoderConfig:
    """3D encoder of candidate 2 at 256², eight views.

    Command: ``omote train voxels-gpu --run runs/voxels``. Hours: docs/candidates.md. Score: not run.
    """
    return replace(
        voxels_cpu(runs),
        population=runs / VIEWS_256,
        engine=gpu_engine(300_000, batch_size=16, learning_rate=1e-3),
        widths=(24, 48),
        view_width=128,
    )


def to3d_gpu(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh at 256², eight views.

    Command: ``omote train to3d-gpu --run runs/to3d --set ict=ICT_FACEKIT``. Hours: docs/candidates.md. Score: not run.
    """
    return replace(
        to3d_cpu(runs),
        population=runs / VIEWS_256,
        engine=gpu_engine(600_000, batch_size=32, learning_rate=6e-4, cooldown=0.5),
        features=24,
        width=96,
        map_widths=(96, 144, 192),
    )


def to3d_gpu_decoded(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh of candidate 1 at 256²: `to3d-gpu` trained further on decoded views.

    Command: ``omote train to3d-gpu-decoded --run runs/to3d-decoded``. Hours: a quarter of `to3d-gpu`. Score: not run.
    """
    return _further(to3d_gpu(runs), to3d_cpu_decoded(runs))


def to3d_gpu_latents(runs: Path) -> ViewsToMeshConfig:
    """Views → mesh of candidate 2 at 256²: from `to3d-gpu`, straight from latents.

    Command: ``omote train to3d-gpu-latents --run runs/to3d-latents``. Hours: a quarter of `to3d-gpu`. Score: not run.
    """
    return _further(to3d_gpu(runs), to3d_cpu_latents(runs))


def _further(large: ViewsToMeshConfig, small: ViewsToMeshConfig) -> ViewsToMeshConfig:
    """``small``, which begins with another run's network, at the size of ``large``."""
    return replace(
        small,
        population=large.population,
        engine=replace(large.engine, total_images=160_000, learning_rate=3e-4),
        features=large.features,
        width=large.width,
        map_widths=large.map_widths,
    )


def candidate1_gpu(runs: Path) -> ViewDenoiserConfig:
    """Denoiser of candidate 1 at 256², eight views.

    Command: ``omote train candidate1-gpu --run runs/candidate1``. Hours: docs/candidates.md. Score: not run.
    """
    return replace(
        candidate1_cpu(runs),
        population=runs / VIEWS_256,
        engine=gpu_engine(1_500_000, batch_size=32, learning_rate=3e-4),
        channels=(192, 320, 448),
        layers_per_block=2,
        context_width=256,
        rays=True,
    )


def candidate2_gpu(runs: Path) -> ViewDenoiserConfig:
    """Denoiser of candidate 2 at 256², eight views.

    Command: ``omote train candidate2-gpu --run runs/candidate2``. Hours: as `candidate1-gpu`. Score: not run.
    """
    own = candidate2_cpu(runs)
    return replace(candidate1_gpu(runs), first_stage=own.first_stage, encoder=own.encoder, depth=own.depth)


MultiviewConfig = ViewsToMeshConfig | ViewFirstStageConfig | VoxelEncoderConfig | ViewDenoiserConfig
MULTIVIEW: dict[str, Callable[[Path], MultiviewConfig]] = {
    "to3d-tiny": to3d_tiny,
    "to3d-cpu": to3d_cpu,
    "to3d-cpu-volume": to3d_cpu_volume,
    "views-tiny": views_tiny,
    "views-tiny-rgbd": views_tiny_rgbd,
    "views-cpu": views_cpu,
    "views-cpu-rgbd": views_cpu_rgbd,
    "to3d-cpu-latents": to3d_cpu_latents,
    "to3d-cpu-decoded": to3d_cpu_decoded,
    "to3d-tiny-decoded": to3d_tiny_decoded,
    "to3d-tiny-latents": to3d_tiny_latents,
    "voxels-cpu": voxels_cpu,
    "voxels-tiny": voxels_tiny,
    "candidate1-cpu": candidate1_cpu,
    "candidate1-tiny": candidate1_tiny,
    "candidate1-gpu": candidate1_gpu,
    "candidate2-cpu": candidate2_cpu,
    "candidate2-tiny": candidate2_tiny,
    "candidate2-gpu": candidate2_gpu,
    "views-gpu": views_gpu,
    "views-gpu-rgbd": views_gpu_rgbd,
    "voxels-gpu": voxels_gpu,
    "to3d-gpu": to3d_gpu,
    "to3d-gpu-decoded": to3d_gpu_decoded,
    "to3d-gpu-latents": to3d_gpu_latents,
}
