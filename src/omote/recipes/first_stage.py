"""First stages of every f at one size, KL- and VQ-regularised: the rows of the reconstruction table, and of the study of f.

    omote population --out runs/population --persons 2400
    omote train autoencoder-kl-f8 --run runs/kl-f8
    omote evaluate first-stage --out runs/first-stage --runs runs/kl-f8 ...

They compress without a source, in training and in the table, so that everything in a row's images passed through the latent. The
latent is the image pooled by f (five channels, neither noised nor quantised) and the learned channels, which alone are
regularised; a row of either kind is therefore slightly better than the paper's own would be. Learned channels and codes are those
of the paper's table 8 (Rombach et al., CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from omote.engine.loop import EngineConfig
from omote.rgbd.losses import ReconstructionLoss
from omote.rgbd.train.autoencoder import AutoencoderConfig

Regularisation = Literal["kl", "vq"]
KINDS: tuple[Regularisation, ...] = ("kl", "vq")
FACTORS = (2, 4, 8, 16, 32)
LEARNED_CHANNELS = {
    "kl": {2: 2, 4: 3, 8: 4, 16: 16, 32: 64},
    "vq": {2: 2, 4: 3, 8: 4, 16: 8, 32: 16},
}
NUM_CODES = {2: 2048, 4: 8192, 8: 16384, 16: 16384, 32: 16384}
WIDTH = 48


def first_stage_cpu(
    runs: Path, *, factor: int, regularisation: Regularisation, width: int = WIDTH
) -> AutoencoderConfig:
    """A plain first stage that compresses sides by ``factor``, two or three hours on a CPU core at 128 pixels."""
    patch = min(factor, 4)
    return AutoencoderConfig(
        population=runs / "population",
        engine=EngineConfig(total_images=60_000, batch_size=16, learning_rate=1.5e-3, ema_images=3_000),
        regularisation=regularisation,
        # A small run cannot fill a codebook with more codes than the latents it sees in a thousand images.
        num_codes=NUM_CODES[factor] // 8,
        learned_channels=LEARNED_CHANNELS[regularisation][factor],
        patch=patch,
        channels=(width,) * (1 + (factor // patch).bit_length() - 1),
        fine_channels=width,
        loss=ReconstructionLoss(normal=0.5),
        source_dropout=1.0,
        latent_noise=0.0,
        adversarial=0.4,
        matching=1.0,
        adversarial_start=30_000,
    )


def _recipe(name: str, factor: int, regularisation: Regularisation) -> Callable[[Path], AutoencoderConfig]:
    def recipe(runs: Path) -> AutoencoderConfig:
        return first_stage_cpu(runs, factor=factor, regularisation=regularisation)

    recipe.__doc__ = f"""Plain first stage, {regularisation.upper()}, f = {factor}.

        omote train {name} --run runs/{name.removeprefix("autoencoder-")}

    Hours: 2 to 3. Score: its row of the table of `omote evaluate first-stage`; the lower f, the better.
    """
    return recipe


FIRST_STAGES: dict[str, Callable[[Path], AutoencoderConfig]] = {
    (name := f"autoencoder-{regularisation}-f{factor}"): _recipe(name, factor, regularisation)
    for regularisation in KINDS
    for factor in FACTORS
}
