"""Recipes of seconds on any machine, for tests: the code of a release at a fraction of its size, without an expected score.

    omote population --out runs/population --persons 3
    omote train autoencoder-tiny --run runs/autoencoder
    omote train editor-tiny --run runs/editor

and each of the others by its name; the runs that it depends on lie beside it under the names of their stages.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omote.engine.loop import EngineConfig
from omote.recipes.cpu import autoencoder_cpu, decoder_cpu_polish, editor_cpu, editor_cpu_few, expressions_cpu, text_cpu
from omote.rgbd.train.autoencoder import AutoencoderConfig
from omote.rgbd.train.decoder import DecoderConfig
from omote.rgbd.train.distil import DistilConfig
from omote.rgbd.train.editor import EditorConfig
from omote.rgbd.train.expression_prior import ExpressionPriorConfig
from omote.rgbd.train.text import TextConfig

ENGINE = EngineConfig(
    total_images=64, batch_size=8, precision="fp32", warmup_images=16, log_images=8, checkpoint_s=1e9, threads=1
)


def autoencoder_tiny(runs: Path) -> AutoencoderConfig:
    """First stage, 8 steps."""
    return replace(autoencoder_cpu(runs), engine=ENGINE, channels=(16,), fine_channels=16)


def editor_tiny(runs: Path) -> EditorConfig:
    """Editor, 8 steps."""
    return replace(
        editor_cpu(runs),
        autoencoder=runs / "autoencoder/export/autoencoder",
        engine=ENGINE,
        channels=(16, 32),
        context_width=32,
        head_channels=16,
    )


def editor_tiny_conditions(runs: Path) -> EditorConfig:
    """The editor, trained further to sample and to read every condition, 8 steps."""
    return replace(
        editor_tiny(runs),
        start_from=runs / "editor/export/editor",
        draw_share=0.25,
        drop_source=0.1,
        geometry="normals",
        identity=True,
    )


def few_tiny(runs: Path) -> DistilConfig:
    """The distilled editor, 8 steps."""
    return replace(
        editor_cpu_few(runs),
        autoencoder=runs / "autoencoder/export/autoencoder",
        teacher=runs / "editor/export/editor",
        engine=ENGINE,
    )


def decoder_tiny(runs: Path) -> DecoderConfig:
    """Decoder on the editor's latents, 8 steps."""
    return replace(
        decoder_cpu_polish(runs),
        autoencoder=runs / "autoencoder/export/autoencoder",
        editor=runs / "editor/export/editor",
        adversarial_start=32,
        engine=ENGINE,
    )


def decoder_tiny_draw(runs: Path) -> DecoderConfig:
    """Decoder that also decodes without a source, 8 steps."""
    return replace(decoder_tiny(runs), editor=None, alone_share=0.5)


def expressions_tiny(runs: Path) -> ExpressionPriorConfig:
    """Prior of expressions, 8 steps."""
    return replace(expressions_cpu(runs), engine=ENGINE, width=16, depth=1)


def text_tiny(runs: Path) -> TextConfig:
    """Text conditioner, 8 steps."""
    return replace(text_cpu(runs), engine=ENGINE, num_captions=128)
