"""The release at 128² on a CPU, in four runs over one population.

    omote population --out runs/population --persons 2400 --ict ICT_FACEKIT
    omote train autoencoder-cpu --run runs/autoencoder
    omote train editor-cpu --run runs/editor
    omote train decoder-cpu --run runs/decoder
    omote train decoder-cpu-polish --run runs/decoder-polish

Runs lie side by side in one folder, where each finds those it depends on. Hours are of one core (2.5 GHz Xeon) at the rates of
these runs. Scores are those of the shipped weights on the release suite (`src/omote/weights/README.md`), the result of the whole
chain with about twice these images, except where a single stage is named.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omote.diffusion.objective import Objective
from omote.engine.loop import EngineConfig
from omote.rgbd.losses import ReconstructionLoss
from omote.rgbd.train.autoencoder import AutoencoderConfig
from omote.rgbd.train.decoder import DecoderConfig
from omote.rgbd.train.distil import DistilConfig
from omote.rgbd.train.editor import EditorConfig
from omote.rgbd.train.expression_prior import ExpressionPriorConfig
from omote.rgbd.train.text import TextConfig


def autoencoder_cpu(runs: Path) -> AutoencoderConfig:
    """First stage, KL, f = 4.

        omote train autoencoder-cpu --run runs/autoencoder

    Hours: 1.5 at 11 images/s. Score to expect, with the decoder of `decoder-cpu-polish`: colour PSNR 36 dB, depth MAE .4 mm.
    """
    return AutoencoderConfig(
        population=runs / "population",
        engine=EngineConfig(total_images=60_000, batch_size=16, learning_rate=1.5e-3, ema_images=3_000),
    )


def editor_cpu(runs: Path) -> EditorConfig:
    """Latent editor: rectified flow on latent differences, conditioned on motion images.

        omote train editor-cpu --run runs/editor

    Hours: 2.5 at 11 images/s, 1.5 at 19 images/s with ``--set latents=runs/edits`` (`omote encode`). Score to expect after all
    five: depth MAE .5 mm, 1.1 mm over moving pixels, PSNR 34 dB, expression top-1 .79 (true renders .82).
    """
    return EditorConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        engine=EngineConfig(total_images=100_000, batch_size=12, learning_rate=1e-3, ema_images=3_000),
        objective=Objective(at_noise=0.9),
    )


def candidate3_cpu_stage(runs: Path) -> AutoencoderConfig:
    """First stage of candidate 3 with the budget of candidates 1 and 2: an hour of computing of its four.

        omote train candidate3-cpu-stage --run runs/candidate3-stage

    Hours: .85 of computing on one core, for all of its 60,000 images. Score: none of its own; the candidates' table measures it
    with its editor.
    """
    config = autoencoder_cpu(runs)
    return replace(config, engine=replace(config.engine, max_seconds=3_600.0, clock="cpu", threads=1))


def candidate3_cpu(runs: Path) -> EditorConfig:
    """Editor of candidate 3 with the budget of candidates 1 and 2, for their table (`omote study candidates`).

        omote train candidate3-cpu --run runs/candidate3

    Hours: at most 3 of computing on one core; 1.6 for 190,000 images in bfloat16 with ``--set latents=runs/edits`` (`omote
    encode`). Scores: docs/candidates.md, after those.
    """
    config = editor_cpu(runs)
    return replace(
        config,
        autoencoder=runs / "candidate3-stage/export/autoencoder",
        engine=replace(config.engine, total_images=250_000, cooldown=0.5, max_seconds=10_800.0, clock="cpu", threads=1),
    )


def editor_cpu_flow(runs: Path) -> EditorConfig:
    """The same network trained further at all times t, for edits in several steps and for diverse samples.

        omote train editor-cpu-flow --run runs/editor-flow

    Hours: 0.8 at 11 images/s, 0.5 with ``latents``. Score to expect: that of `editor-cpu` in one step.
    """
    return replace(
        editor_cpu(runs),
        engine=EngineConfig(total_images=30_000, batch_size=12, learning_rate=6e-4, ema_images=3_000, cooldown=0.8),
        objective=Objective(at_noise=0.5),
        start_from=runs / "editor/export/editor",
    )


def editor_cpu_regression(runs: Path) -> EditorConfig:
    """The baseline of diffusion: the same network as a plain regression, at t = 1 alone and without reading the noise.

        omote train editor-cpu-regression --run runs/editor-regression

    One pass gives the answer, for every seed. Initial weights, images and mix of conditions are those of `editor-cpu-flow`, so
    that only the objective differs. Hours: as there. Score to expect: its one-step errors; samples do not differ.
    """
    return replace(editor_cpu_flow(runs), objective=Objective(at_noise=1.0))


def editor_cpu_pixel(runs: Path) -> EditorConfig:
    """The baseline without a first stage: diffusion of the images themselves, f = 1, by the U-Net of `editor-cpu`.

        omote train editor-cpu-pixel --run runs/pixel

    The number of images is that of `editor-cpu` and `editor-cpu-flow` together, in one run from scratch. Hours: about 3 at 12
    images/s, a quarter of the latent editor's rate. Score: not run to its end. The output is the sampled image itself: no decoder
    adds the source's detail.

    Two choices keep it below the best that pixel diffusion can do. To be affordable, the U-Net reads patches of 4 × 4 pixels as
    channels, at 32²: there is no convolution within a patch, and v, which is mostly noise at small t, has 80 numbers per patch to
    pass through 64 channels; after 12 minutes, several steps leave grain (`--set patch=8` has a grid as coarse as the latent
    editor's, at 29 images/s). And times are drawn as for latents, though the same noise hides less of an image, whose
    neighbouring pixels agree (Hoogeboom et al., "simple diffusion", ICML 2023, §2.1).

    The identity stage is measured at the start and written to runs/pixel-stage; `--set engine.total_images=0` writes only that,
    for `omote encode`.
    """
    return replace(
        editor_cpu(runs),
        autoencoder=runs / "pixel-stage",
        pixels=True,
        patch=4,
        engine=EngineConfig(total_images=130_000, batch_size=12, learning_rate=1e-3, ema_images=3_000, cooldown=0.5),
        objective=Objective(at_noise=0.5),
    )


def editor_cpu_few(runs: Path) -> DistilConfig:
    """`editor-cpu-flow` distilled to 4, 2 and 1 steps, including its guidance.

        omote train editor-cpu-few --run runs/editor-few

    The teacher takes 8 steps. Hours: 1.7 at 5 images/s. Score after 8,000 images: depth MAE .96 mm in 4 steps, .60 mm in 1,
    against the teacher's 1.06 mm in 50.
    """
    return DistilConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        teacher=runs / "editor-flow/export/editor",
        engine=EngineConfig(total_images=30_000, batch_size=12, learning_rate=5e-4, ema_images=2_000, cooldown=0.5),
        guidance_scale=1.5,
    )


def editor_cpu_draw(runs: Path) -> EditorConfig:
    """The same network trained further to sample synthetic persons unconditionally, and to edit given ones.

        omote train editor-cpu-draw --run runs/editor-draw

    Half of the items have no source, and half of the edits have a category alone. `omote sample` needs this and
    `decoder-cpu-draw`. Hours: about 3 at 10 images/s. Score: not run to its end.
    """
    return replace(
        editor_cpu(runs),
        engine=EngineConfig(total_images=100_000, batch_size=12, learning_rate=8e-4, ema_images=3_000, cooldown=0.6),
        objective=Objective(at_noise=0.3),
        draw_share=0.5,
        dropout={"category": 0.1, "arkit": 0.5},
        drop_source=0.05,
        start_from=runs / "editor-flow/export/editor",
    )


def editor_cpu_conditions(runs: Path) -> EditorConfig:
    """The same network trained further to read a given geometry as an image, and the person's identity coefficients.

        omote train editor-cpu-conditions --run runs/editor-conditions

    Depth enters both beside the input and as tokens; `--set geometry=normals` or `--set geometry_by=concat` are variants. Edits
    without either are unchanged. Hours: about 1.5 at 8 images/s. Score to expect without them: that of `editor-cpu-flow`; not run
    to its end.
    """
    return replace(
        editor_cpu_flow(runs),
        engine=EngineConfig(total_images=40_000, batch_size=12, learning_rate=8e-4, ema_images=2_000, cooldown=0.6),
        objective=Objective(at_noise=0.5),
        geometry="depth",
        identity=True,
        dropout={"category": 0.1, "arkit": 0.5},
        start_from=runs / "editor-flow/export/editor",
    )


def decoder_cpu(runs: Path) -> DecoderConfig:
    """The decoder with a warped source, on latents of the ground truth.

        omote train decoder-cpu --run runs/decoder

    Hours: 0.9 at 6 images/s. Score to expect: the autoencoder's, with softer mouths than `decoder-cpu-polish` leaves.
    """
    return DecoderConfig(
        population=runs / "population",
        autoencoder=runs / "autoencoder/export/autoencoder",
        editor=None,
        # Expressions are read from eyes, brows and mouth; skin is easy.
        loss=ReconstructionLoss(feature_weight=4.0, moved_weight=3.0),
        engine=EngineConfig(total_images=20_000, batch_size=16, learning_rate=1e-3, ema_images=2_000, cooldown=0.5),
    )


def decoder_cpu_polish(runs: Path) -> DecoderConfig:
    """The decoder on the editor's own latents, against a discriminator.

        omote train decoder-cpu-polish --run runs/decoder-polish

    Hours: 1 at 6 images/s. Score to expect: see `autoencoder-cpu` and `editor-cpu`.
    """
    return replace(
        decoder_cpu(runs),
        autoencoder=runs / "decoder/export/autoencoder",
        editor=runs / "editor/export/editor",
        clean_share=0.2,
        # L1 alone gives soft lids and teeth, from which expressions are read.
        loss=replace(decoder_cpu(runs).loss, rgb_gradient=2.0, depth=12.0),
        adversarial=0.4,
        matching=1.5,
        engine=EngineConfig(total_images=24_000, batch_size=8, learning_rate=8e-4, ema_images=1_500, cooldown=0.5),
    )


def decoder_cpu_draw(runs: Path) -> DecoderConfig:
    """The polished decoder, which can also decode without a source, for sampled persons.

        omote train decoder-cpu-draw --run runs/decoder-draw

    Hours: 0.3 at 8 images/s. Score: not run to its end.
    """
    return replace(
        decoder_cpu_polish(runs),
        autoencoder=runs / "decoder-polish/export/autoencoder",
        editor=None,
        alone_share=0.3,
        adversarial_start=1_000,
        engine=EngineConfig(total_images=10_000, batch_size=8, learning_rate=6e-4, ema_images=1_000, cooldown=0.6),
    )


def expressions_cpu(runs: Path) -> ExpressionPriorConfig:
    """The prior of expressions: distributions of ARKit weights per category.

        omote train expressions-cpu --run runs/expressions

    Hours: .03. Score: none of its own; it is measured by edits with drawn weights.
    """
    return ExpressionPriorConfig(
        population=runs / "population",
        engine=EngineConfig(
            total_images=600_000,
            batch_size=256,
            learning_rate=1e-3,
            warmup_images=20_000,
            cooldown=0.5,
            ema_images=40_000,
            log_images=25_600,
            grid_images=0,
        ),
    )


def text_cpu(runs: Path) -> TextConfig:
    """Text conditioner for the shipped editor.

        omote train text-cpu --run runs/text

    Hours: 0.2. Score to expect (`omote evaluate text`): expression accuracy by held-out captions, English and Japanese, at least
    .9 of that by category.
    """
    return TextConfig(
        num_captions=49_152,
        engine=EngineConfig(
            total_images=800_000,
            batch_size=128,
            learning_rate=2e-3,
            warmup_images=20_000,
            cooldown=0.6,
            ema_images=20_000,
            log_images=20_000,
            grid_images=0,
        ),
    )
