"""The release at 128² on a CPU, in three runs over one population.

    omote population --out runs/population --persons 4000
    omote train autoencoder-cpu --run runs/autoencoder
    omote train editor-cpu --run runs/editor
    omote train decoder-cpu --run runs/decoder

Runs lie side by side in one folder; each finds the one before it there.
"""

from __future__ import annotations

from pathlib import Path

from omote.training.autoencoder import AutoencoderConfig
from omote.training.decoder import DecoderConfig
from omote.training.editor import EditorConfig
from omote.training.engine import EngineConfig


def autoencoder_cpu(runs: Path) -> AutoencoderConfig:
    """First stage, KL, f = 4."""
    return AutoencoderConfig(
        population=runs / "population",
        engine=EngineConfig(total_images=60_000, batch_size=16, learning_rate=1.5e-3, ema_images=3_000),
    )


def editor_cpu(runs: Path) -> EditorConfig:
    """Latent editor: rectified flow on latent differences."""
    return EditorConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        engine=EngineConfig(total_images=150_000, batch_size=32, learning_rate=8e-4, ema_images=5_000),
    )


def decoder_cpu(runs: Path) -> DecoderConfig:
    """Polish of the decoder on the editor's own latents."""
    return DecoderConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        editor=runs / "editor/export/editor",
        engine=EngineConfig(total_images=20_000, batch_size=16, learning_rate=5e-4, ema_images=2_000, cooldown=0.6),
    )
