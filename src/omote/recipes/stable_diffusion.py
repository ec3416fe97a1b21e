"""Stable Diffusion: a narrow one from nothing, and fine-tuning of any to RGB-D, to several views, and to both.

    omote population --out runs/views --persons 1500 --images 3 --views 5
    omote train sd-narrow-vae --run runs/sd-narrow-vae
    omote train sd-narrow --run runs/sd-narrow
    omote train sd-narrow-rgbd --run runs/sd-narrow-rgbd
    omote train sd-narrow-multiview --run runs/sd-narrow-multiview

A checkpoint of one's own is given with ``--set checkpoint=FOLDER_OR_FILE``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omote.engine.loop import EngineConfig
from omote.multiview.train_narrow_vae import NarrowVaeConfig
from omote.multiview.train_stable_diffusion import StableDiffusionConfig
from omote.recipes.gpu import gpu_engine
from omote.recipes.multiview import VIEWS_256
from omote.recipes.tiny import ENGINE

NARROW_VAE = (32, 64, 64, 64)


def sd_narrow_vae(runs: Path) -> NarrowVaeConfig:
    """Narrow VAE: KL, f = 8, 64².

        omote train sd-narrow-vae --run runs/sd-narrow-vae

    Hours: .08 of computing on one core. Score: its row `vae` in docs/stable-diffusion.md.
    """
    return NarrowVaeConfig(
        images=runs / "views",
        engine=EngineConfig(
            total_images=60_000,
            batch_size=16,
            learning_rate=1.5e-3,
            warmup_images=500,
            cooldown=0.4,
            ema_images=1_000,
            max_seconds=300.0,
            clock="cpu",
            checkpoint_s=120.0,
            threads=1,
        ),
        sample_size=64,
        channels=NARROW_VAE,
        layers_per_block=1,
        adversarial=0.0,
    )


def sd_narrow(runs: Path) -> StableDiffusionConfig:
    """A narrow Stable Diffusion from nothing: 64², 1.5's structure, 34 M parameters beside its VAE, text encoder trained with it.

        omote train sd-narrow --run runs/sd-narrow

    Hours: .08 of computing on one core. Score: docs/stable-diffusion.md.
    """
    return StableDiffusionConfig(
        population=runs / "views",
        engine=_narrow_engine(seconds=300.0, batch_size=16),
        vae=runs / "sd-narrow-vae/export/autoencoder",
        channels=(64, 128, 256, 256),
        text_width=128,
        text_layers=3,
        sample_size=64,
        times="logit_normal",
        at_noise=0.05,
    )


def sd_narrow_rgbd(runs: Path) -> StableDiffusionConfig:
    """The narrow one, fine-tuned to colour and depth.

        omote train sd-narrow-rgbd --run runs/sd-narrow-rgbd

    Its rival is ``sd-narrow-rgbd-scratch``. Hours: .014 of computing on one core. Score: docs/stable-diffusion.md.
    """
    return replace(
        sd_narrow(runs),
        checkpoint=runs / "sd-narrow/export",
        engine=_narrow_engine(seconds=50.0, batch_size=16),
        depth=True,
    )


def sd_narrow_multiview(runs: Path) -> StableDiffusionConfig:
    """The narrow one, fine-tuned to the views of a rig.

        omote train sd-narrow-multiview --run runs/sd-narrow-multiview

    Its rival is ``sd-narrow-multiview-scratch``. Hours: .014 of computing on one core. Score: docs/stable-diffusion.md.
    """
    return replace(
        sd_narrow(runs),
        checkpoint=runs / "sd-narrow/export",
        engine=_narrow_engine(seconds=50.0, batch_size=4),
        multiview=True,
    )


def sd_narrow_rgbd_scratch(runs: Path) -> StableDiffusionConfig:
    """`sd-narrow-rgbd` with its U-Net's weights drawn anew; the same VAE, text encoder and time.

    Command: ``omote train sd-narrow-rgbd-scratch --run runs/sd-narrow-rgbd-scratch``.
    Hours: .014. Score: docs/stable-diffusion.md.
    """
    return replace(sd_narrow_rgbd(runs), from_nothing=True)


def sd_narrow_multiview_scratch(runs: Path) -> StableDiffusionConfig:
    """`sd-narrow-multiview` with its U-Net's weights drawn anew; the same VAE, text encoder and time.

    Command: ``omote train sd-narrow-multiview-scratch --run runs/sd-narrow-multiview-scratch``.
    Hours: .014. Score: docs/stable-diffusion.md.
    """
    return replace(sd_narrow_multiview(runs), from_nothing=True)


def sd_narrow_both(runs: Path) -> StableDiffusionConfig:
    """The narrow one, fine-tuned to colour and depth of the views of a rig.

    Command: ``omote train sd-narrow-both --run runs/sd-narrow-both``. Hours: .014. Score: not run.
    """
    return replace(sd_narrow_multiview(runs), depth=True)


def sd_rgbd(runs: Path) -> StableDiffusionConfig:
    """A checkpoint of one's own, fine-tuned to colour and depth: low-rank changes, and all new weights, at 256².

        omote train sd-rgbd --run runs/sd-rgbd --set checkpoint=FOLDER_OR_FILE

    Hours: ``--dry-run`` measures them, and memory, on this machine. Score: not run.
    """
    return StableDiffusionConfig(
        population=runs / "views",
        checkpoint=runs / "stable-diffusion",
        engine=EngineConfig(
            total_images=20_000,
            batch_size=4,
            learning_rate=1e-4,
            warmup_images=1_000,
            ema_images=2_000,
            grid_images=2_000,
            checkpoint_s=600.0,
        ),
        depth=True,
        lora_rank=16,
        gradient_checkpointing=True,
    )


def sd_multiview(runs: Path) -> StableDiffusionConfig:
    """A checkpoint of one's own, fine-tuned to the views of a rig: as `sd-rgbd`.

        omote train sd-multiview --run runs/sd-multiview --set checkpoint=FOLDER_OR_FILE

    With ``--set depth=true`` each view has its depth. Hours: as `sd-rgbd`. Score: not run.
    """
    own = sd_rgbd(runs)
    return replace(own, depth=False, multiview=True, engine=replace(own.engine, batch_size=1))


def sd_rgbd_gpu(runs: Path) -> StableDiffusionConfig:
    """`sd-rgbd` on one data-centre GPU: the whole U-Net, Marigold's batch, learning rate and first weights (§4.1).

    Command: ``omote train sd-rgbd-gpu --run runs/sd-rgbd --set checkpoint=FOLDER_OR_FILE``. Hours: by ``--dry-run``.
    Score: not run.
    """
    return replace(
        sd_rgbd(runs),
        population=runs / VIEWS_256,
        engine=gpu_engine(640_000, batch_size=32, learning_rate=3e-5),
        depth_init="halved",
        lora_rank=0,
    )


def sd_multiview_gpu(runs: Path) -> StableDiffusionConfig:
    """`sd-multiview` on one data-centre GPU: the whole U-Net, eight views.

    Command: ``omote train sd-multiview-gpu --run runs/sd-multiview --set checkpoint=FOLDER_OR_FILE``. Hours: by
    ``--dry-run``. Score: not run.
    """
    return replace(
        sd_rgbd_gpu(runs),
        engine=gpu_engine(320_000, batch_size=16, learning_rate=1e-4),
        depth=False,
        multiview=True,
    )


def sd_tiny(runs: Path) -> StableDiffusionConfig:
    """A narrow Stable Diffusion from nothing, 8 steps."""
    own = sd_narrow(runs)
    return replace(
        own, engine=ENGINE, vae=runs / "sd-tiny-vae/export/autoencoder", channels=(32, 32, 64, 64), text_width=64
    )


def sd_tiny_vae(runs: Path) -> NarrowVaeConfig:
    """Narrow VAE, 8 steps."""
    return replace(sd_narrow_vae(runs), engine=ENGINE, channels=(32, 32, 32, 32))


def sd_rgbd_tiny(runs: Path) -> StableDiffusionConfig:
    """Fine-tuning to colour and depth, 8 steps, low-rank."""
    own = sd_narrow_rgbd(runs)
    return replace(own, engine=ENGINE, checkpoint=runs / "sd-tiny/export", lora_rank=2)


def sd_multiview_tiny(runs: Path) -> StableDiffusionConfig:
    """Fine-tuning to colour and depth of views, 8 steps, the whole U-Net."""
    own = sd_narrow_both(runs)
    return replace(own, engine=ENGINE, checkpoint=runs / "sd-tiny/export")


def _narrow_engine(*, seconds: float, batch_size: int) -> EngineConfig:
    return EngineConfig(
        total_images=200_000,
        batch_size=batch_size,
        learning_rate=5e-4,
        warmup_images=500,
        cooldown=0.5,
        ema_images=1_500,
        max_seconds=seconds,
        clock="cpu",
        log_images=400,
        grid_images=4_000,
        checkpoint_s=180.0,
        threads=1,
    )


StableDiffusionRecipe = NarrowVaeConfig | StableDiffusionConfig
STABLE_DIFFUSION: dict[str, Callable[[Path], StableDiffusionRecipe]] = {
    "sd-narrow-vae": sd_narrow_vae,
    "sd-narrow": sd_narrow,
    "sd-narrow-rgbd": sd_narrow_rgbd,
    "sd-narrow-multiview": sd_narrow_multiview,
    "sd-narrow-both": sd_narrow_both,
    "sd-rgbd": sd_rgbd,
    "sd-multiview": sd_multiview,
    "sd-rgbd-gpu": sd_rgbd_gpu,
    "sd-multiview-gpu": sd_multiview_gpu,
    "sd-tiny-vae": sd_tiny_vae,
    "sd-tiny": sd_tiny,
    "sd-rgbd-tiny": sd_rgbd_tiny,
    "sd-multiview-tiny": sd_multiview_tiny,
    "sd-narrow-rgbd-scratch": sd_narrow_rgbd_scratch,
    "sd-narrow-multiview-scratch": sd_narrow_multiview_scratch,
}
