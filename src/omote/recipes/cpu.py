"""The release at 128² on a CPU, in five runs over one population.

    omote population --out runs/population --persons 2400 --ict ICT_FACEKIT
    omote train autoencoder-cpu --run runs/autoencoder
    omote train editor-cpu --run runs/editor
    omote train editor-cpu-flow --run runs/editor-flow
    omote train decoder-cpu --run runs/decoder
    omote train decoder-cpu-polish --run runs/decoder-polish

Runs lie side by side in one folder; each finds the one before it there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omote.ldm.losses import ReconstructionLoss
from omote.ldm.objective import Objective
from omote.training.autoencoder import AutoencoderConfig
from omote.training.decoder import DecoderConfig
from omote.training.editor import EditorConfig
from omote.training.engine import EngineConfig
from omote.training.text import TextConfig


def autoencoder_cpu(runs: Path) -> AutoencoderConfig:
    """First stage, KL, f = 4."""
    return AutoencoderConfig(
        population=runs / "population",
        engine=EngineConfig(total_images=60_000, batch_size=16, learning_rate=1.5e-3, ema_images=3_000),
    )


def editor_cpu(runs: Path) -> EditorConfig:
    """Latent editor: rectified flow on latent differences, led by motion images."""
    return EditorConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        engine=EngineConfig(total_images=100_000, batch_size=12, learning_rate=1e-3, ema_images=3_000),
        objective=Objective(at_noise=0.9),
    )


def editor_cpu_flow(runs: Path) -> EditorConfig:
    """The same network trained on over all times: what several steps need, and samples that differ."""
    return replace(
        editor_cpu(runs),
        engine=EngineConfig(total_images=30_000, batch_size=12, learning_rate=6e-4, ema_images=3_000, cooldown=0.8),
        objective=Objective(at_noise=0.5),
        start_from=runs / "editor/export/editor",
    )


def decoder_cpu(runs: Path) -> DecoderConfig:
    """The decoder with a moved source, on latents of the truth."""
    return DecoderConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        editor=None,
        # Eyes, brows and mouth are what an expression is read from; skin is easy.
        loss=ReconstructionLoss(feature_weight=4.0, moved_weight=3.0),
        engine=EngineConfig(total_images=20_000, batch_size=16, learning_rate=1e-3, ema_images=2_000, cooldown=0.5),
    )


def decoder_cpu_polish(runs: Path) -> DecoderConfig:
    """The decoder on the editor's own latents."""
    return replace(
        decoder_cpu(runs),
        autoencoder=runs / "decoder/export/autoencoder",
        editor=runs / "editor-flow/export/editor",
        clean_share=0.2,
        # L1 alone draws lids and teeth soft, and those are what an expression is read from.
        loss=replace(decoder_cpu(runs).loss, rgb_gradient=2.0, depth=12.0),
        adversarial=0.4,
        matching=1.5,
        engine=EngineConfig(total_images=24_000, batch_size=8, learning_rate=8e-4, ema_images=1_500, cooldown=0.5),
    )


def text_cpu(runs: Path) -> TextConfig:
    """Text conditioner for the shipped editor."""
    return TextConfig(
        engine=EngineConfig(
            total_images=400_000,
            batch_size=128,
            learning_rate=2e-3,
            warmup_images=20_000,
            cooldown=0.6,
            ema_images=20_000,
            log_images=20_000,
            grid_images=0,
        )
    )
