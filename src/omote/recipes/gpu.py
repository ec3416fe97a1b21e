"""A release at 256² on one data-centre GPU, in four runs over one population.

    omote population --out runs/population --persons 20000 --size 256 --ict ICT_FACEKIT
    omote train autoencoder-gpu --run runs/autoencoder
    omote train editor-gpu --run runs/editor
    omote train editor-gpu-flow --run runs/editor-flow
    omote train decoder-gpu --run runs/decoder

Not run: the settings are those of `omote.recipes.cpu`, scaled up. The latent has 32 × 32 pixels as in the CPU release, with f = 8
instead of 4, and the networks are several times as wide. All steps together, as torch counts operations, take less than two hours
of a GPU at a fifth of its 990 TFLOP/s in bf16. Pairs and motion images are drawn on the CPU in every step, which determines the
hours: estimates at a rate of 200 images per second. Scores are goals taken from the CPU release at 128 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omote.engine.loop import EngineConfig
from omote.recipes.cpu import autoencoder_cpu, decoder_cpu_polish, editor_cpu, editor_cpu_flow
from omote.rgbd.train.autoencoder import AutoencoderConfig
from omote.rgbd.train.decoder import DecoderConfig
from omote.rgbd.train.editor import EditorConfig


def gpu_engine(total_images: int, *, batch_size: int, learning_rate: float, cooldown: float = 0.3) -> EngineConfig:
    """Engine settings with longer intervals of reports, for a faster machine."""
    return EngineConfig(
        total_images=total_images,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_images=50_000,
        cooldown=cooldown,
        ema_images=20_000,
        more_ema_images=(100_000,),
        checkpoint_s=600.0,
        log_images=12_800,
        grid_images=200_000,
    )


def autoencoder_gpu(runs: Path) -> AutoencoderConfig:
    """First stage, KL, f = 8, 256².

    Command: ``omote train autoencoder-gpu --run runs/autoencoder``. Hours: 4 (estimate, not run). Score to expect: colour PSNR
    36 dB and depth MAE .25 mm on unseen persons.
    """
    return replace(
        autoencoder_cpu(runs),
        engine=gpu_engine(3_000_000, batch_size=64, learning_rate=1e-3),
        sample_size=256,
        patch=4,
        channels=(128, 256),
        learned_channels=8,
        fine_channels=64,
    )


def editor_gpu(runs: Path) -> EditorConfig:
    """Latent editor, conditioned on motion images.

    Command: ``omote train editor-gpu --run runs/editor``. Hours: 8 (estimate, not run). Score to expect: depth MAE .5 mm on the
    release suite.
    """
    return replace(
        editor_cpu(runs),
        engine=gpu_engine(6_000_000, batch_size=128, learning_rate=5e-4),
        patch=1,
        channels=(128, 256, 384),
        layers_per_block=2,
        context_width=256,
    )


def editor_gpu_flow(runs: Path) -> EditorConfig:
    """The same network trained further at all times t.

    Command: ``omote train editor-gpu-flow --run runs/editor-flow``. Hours: 4 (estimate, not run). Score to expect: that of
    ``editor-gpu`` in one step, with samples that differ in several.
    """
    return replace(
        editor_gpu(runs),
        engine=gpu_engine(3_000_000, batch_size=128, learning_rate=3e-4, cooldown=0.8),
        objective=editor_cpu_flow(runs).objective,
        start_from=runs / "editor/export/editor",
    )


def decoder_gpu(runs: Path) -> DecoderConfig:
    """The decoder on the editor's own latents, with a discriminator.

    Command: ``omote train decoder-gpu --run runs/decoder``. Hours: 2 (estimate, not run). Score to expect: PSNR 33 dB and
    expression top-1 within 5 points of true renders on the release suite.
    """
    return replace(
        decoder_cpu_polish(runs),
        autoencoder=runs / "autoencoder/export/autoencoder",
        engine=gpu_engine(1_500_000, batch_size=64, learning_rate=5e-4, cooldown=0.5),
        adversarial_start=50_000,
    )


GPU: dict[str, Callable[[Path], AutoencoderConfig | EditorConfig | DecoderConfig]] = {
    "autoencoder-gpu": autoencoder_gpu,
    "editor-gpu": editor_gpu,
    "editor-gpu-flow": editor_gpu_flow,
    "decoder-gpu": decoder_gpu,
}
