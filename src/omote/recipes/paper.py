"""The settings of Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, for image folders.

    omote data pack FFHQ --out runs/images --size 256
    omote train autoencoder-paper-vq-f4 --run runs/autoencoder
    accelerate launch --num_processes 8 -m omote train generator-paper-ffhq --run runs/ffhq
    omote generate --run runs/ffhq --out faces --count 50000 --steps 200

Widths, multipliers, attended resolutions, heads, batch sizes, iterations and rates are those of the paper's tables 12
(unconditional) and 15 (class, text), as are |Z| and the z-shapes. FIDs in the docstrings are the paper's own (tables 1, 2 and 3);
none of these runs was made here, so they reproduce nothing.

Differences from the paper: first stages learn from the folder itself (the paper's from OpenImages), with the features of
`omote.nets.perceptual` instead of LPIPS if that file is given; the noise schedule has β from .00085 to .012 for all (as the
paper's text model; its others have .0015 to .0195); AdamW has β₂ = .99. Hours are estimates from the operations of all steps, as
torch counts them, at a fifth of a data-centre GPU's 990 TFLOP/s in bf16; none was timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omote.engine.loop import EngineConfig
from omote.images.train_first_stage import ImageAutoencoderConfig
from omote.images.train_generator import ImageGeneratorConfig

# The paper's moving average: .9999 per step.
EMA_STEPS = round(math.log(0.5) / math.log(0.9999))


def paper_engine(*, batch_size: int, iterations: int, learning_rate: float, warmup_steps: int = 0) -> EngineConfig:
    """Constant learning rate, torch's weight decay, no clipping."""
    return EngineConfig(
        total_images=batch_size * iterations,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_images=batch_size * warmup_steps,
        cooldown=0.0,
        weight_decay=0.01,
        ema_images=batch_size * EMA_STEPS,
        clip_norm=1e6,
        checkpoint_s=900.0,
        log_images=100 * batch_size,
        grid_images=5_000 * batch_size,
    )


def autoencoder_paper_vq_f4(runs: Path) -> ImageAutoencoderConfig:
    """First stage of LDM-4: f = 4, |Z| = 8192, z 64 × 64 × 3 (table 8).

    Command: ``omote train autoencoder-paper-vq-f4 --run runs/autoencoder``. Hours: about 20 (not run). Score: reconstruction
    FID 0.58, PSNR 27.4 on OpenImages-trained ImageNet validation images (the paper's figure 1, not reproduced here).
    """
    return ImageAutoencoderConfig(
        images=runs / "images",
        engine=paper_engine(batch_size=16, iterations=250_000, learning_rate=16 * 4.5e-6),
        regularisation="vq",
        latent_channels=3,
        num_codes=8192,
        channels=(128, 256, 512),
        adversarial=0.75,
        adversarial_start=0,
    )


def autoencoder_paper_kl_f8(runs: Path) -> ImageAutoencoderConfig:
    """First stage of LDM-8: f = 8, KL, z 32 × 32 × 4 (table 8).

    Command: ``omote train autoencoder-paper-kl-f8 --run runs/autoencoder``. Hours: about 20 (not run). Score: reconstruction
    FID 0.90 on ImageNet validation images (the paper's table 8, not reproduced here).
    """
    return replace(
        autoencoder_paper_vq_f4(runs),
        regularisation="kl",
        latent_channels=4,
        channels=(128, 256, 512, 512),
        adversarial=0.5,
        adversarial_start=50_000 * 16,
    )


def _unconditional(runs: Path, engine: EngineConfig) -> ImageGeneratorConfig:
    return ImageGeneratorConfig(
        images=runs / "images", autoencoder=runs / "autoencoder/export/autoencoder", engine=engine
    )


def generator_paper_celebahq(runs: Path) -> ImageGeneratorConfig:
    """CelebA-HQ 256², LDM-4, 274 M parameters (table 12).

    Command: ``omote train generator-paper-celebahq --run runs/celebahq``. Hours: about 26 on one GPU (not run). Score: FID 5.11
    with 500 steps (the paper's table 1, not reproduced here).
    """
    return _unconditional(runs, paper_engine(batch_size=48, iterations=410_000, learning_rate=9.6e-5))


def generator_paper_ffhq(runs: Path) -> ImageGeneratorConfig:
    """FFHQ 256², LDM-4, 274 M parameters (table 12).

    Command: ``omote train generator-paper-ffhq --run runs/ffhq``. Hours: about 35 on one GPU (not run). Score: FID 4.98 with 200
    steps (the paper's table 1, not reproduced here).
    """
    return _unconditional(runs, paper_engine(batch_size=42, iterations=635_000, learning_rate=8.4e-5))


def generator_paper_bedrooms(runs: Path) -> ImageGeneratorConfig:
    """LSUN bedrooms 256², LDM-4, 274 M parameters (table 12).

    Command: ``omote train generator-paper-bedrooms --run runs/bedrooms``. Hours: about 120 on one GPU (not run). Score: FID 2.95
    with 200 steps (the paper's table 1, not reproduced here).
    """
    return _unconditional(runs, paper_engine(batch_size=48, iterations=1_900_000, learning_rate=9.6e-5))


def generator_paper_churches(runs: Path) -> ImageGeneratorConfig:
    """LSUN churches 256², LDM-8 on a KL first stage, 294 M parameters (table 12).

    Command: ``omote train generator-paper-churches --run runs/churches``. Hours: about 27 on one GPU (not run). Score: FID 4.02
    with 200 steps (the paper's table 1, not reproduced here).
    """
    return replace(
        _unconditional(runs, paper_engine(batch_size=96, iterations=500_000, learning_rate=5e-5)),
        latent_size=32,
        latent_channels=4,
        channels=(192, 384, 384, 768, 768),
        attended=(True, True, True, True, False),
        head_channels=24,
        residual_resampling=True,
    )


def generator_paper_class(runs: Path) -> ImageGeneratorConfig:
    """ImageNet 256² by class, LDM-4, 395 M parameters (table 15); one subfolder per class, for any number of classes.

    Command: ``accelerate launch --num_processes 8 -m omote train generator-paper-class --run runs/class``. Hours: about 36 on 8
    GPUs (not run). Score: FID 10.56, and 3.60 at guidance 1.5, with 250 steps (the paper's table 3, not reproduced here).
    """
    return replace(
        _unconditional(
            runs, paper_engine(batch_size=1200, iterations=178_000, learning_rate=1e-4, warmup_steps=10_000)
        ),
        condition="class",
        channels=(192, 384, 576, 960),
        head_channels=None,
        random_crop=True,
    )


def generator_paper_text(runs: Path) -> ImageGeneratorConfig:
    """Images by text, LDM-8 on a KL first stage, 1.45 B parameters (table 15); ``name.txt`` beside the images.

    The paper uses BERT's tokens: ``--set tokenizer=tokenizer.json``; the default is the text's bytes. Command: ``accelerate
    launch --use_fsdp --fsdp_version 2 --num_processes 8 -m omote train generator-paper-text --run runs/text``. Hours: about 50
    on 8 GPUs (not run). Score: FID 23.31 on MS-COCO, and 12.63 at guidance 1.5 (the paper's table 2, trained on 400 M images of
    LAION; not reproduced here).
    """
    return replace(
        _unconditional(runs, paper_engine(batch_size=680, iterations=390_000, learning_rate=1e-4, warmup_steps=10_000)),
        condition="text",
        latent_size=32,
        latent_channels=4,
        channels=(320, 640, 1280, 1280),
        attended=(True, True, True, False),
        head_channels=None,
        num_heads=8,
        context_width=1280,
        random_crop=True,
        flip=False,
    )


TINY = EngineConfig(
    total_images=64, batch_size=8, precision="fp32", warmup_images=16, log_images=8, checkpoint_s=1e9, threads=1
)


def autoencoder_paper_tiny(runs: Path) -> ImageAutoencoderConfig:
    """A first stage at 32 pixels, 8 steps, for tests; the results mean nothing."""
    return replace(
        autoencoder_paper_vq_f4(runs),
        engine=TINY,
        sample_size=32,
        num_codes=64,
        channels=(16, 32, 32),
        layers_per_block=1,
        judge_width=16,
    )


def generator_paper_tiny(runs: Path) -> ImageGeneratorConfig:
    """A denoiser on that first stage, 8 steps."""
    return replace(
        _unconditional(runs, TINY),
        sample_size=32,
        latent_size=8,
        channels=(32, 64),
        attended=(False, True),
        layers_per_block=1,
        head_channels=16,
        context_width=64,
        text_layers=1,
        max_tokens=16,
    )


PAPER: dict[str, Callable[[Path], ImageAutoencoderConfig | ImageGeneratorConfig]] = {
    "autoencoder-paper-vq-f4": autoencoder_paper_vq_f4,
    "autoencoder-paper-kl-f8": autoencoder_paper_kl_f8,
    "generator-paper-celebahq": generator_paper_celebahq,
    "generator-paper-ffhq": generator_paper_ffhq,
    "generator-paper-bedrooms": generator_paper_bedrooms,
    "generator-paper-churches": generator_paper_churches,
    "generator-paper-class": generator_paper_class,
    "generator-paper-text": generator_paper_text,
    "autoencoder-paper-tiny": autoencoder_paper_tiny,
    "generator-paper-tiny": generator_paper_tiny,
}
