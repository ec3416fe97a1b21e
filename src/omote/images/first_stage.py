"""First stages of ordinary images: diffusers' `AutoencoderKL` and `VQModel`, as in Rombach et al. (CVPR 2022, §3.1).

The latent is scaled to unit deviation by the models' own ``scaling_factor`` (paper, D.1), so that an export is a diffusers
model like any other. A codebook is part of the decoder: what is diffused is the latent before it (paper, §3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from diffusers import AutoencoderKL, VQModel
from jaxtyping import Float
from torch import Tensor

from omote.engine.weights import load_pretrained
from omote.nets.precision import attend_in_float32

# A model of diffusers, which is untyped.
ImageAutoencoder: TypeAlias = Any
Regularisation = Literal["kl", "vq"]
GROUPS = 32


def image_autoencoder(
    *,
    sample_size: int,
    regularisation: Regularisation,
    latent_channels: int,
    num_codes: int,
    channels: Sequence[int],
    layers_per_block: int,
    attention: bool,
) -> ImageAutoencoder:
    """Build an untrained first stage that shrinks sides by a factor of 2^(len(channels) - 1).

    Args:
        sample_size: side of the images in pixels.
        regularisation: regularisation of the latent, by a KL penalty or a codebook.
        latent_channels: number of channels of the latent.
        num_codes: number of codes in the codebook.
        channels: width at each resolution.
        layers_per_block: number of residual blocks per resolution.
        attention: whether the lowest resolution has self-attention.
    """
    levels = len(channels)
    common = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(channels),
        "layers_per_block": layers_per_block,
        "latent_channels": latent_channels,
        "norm_num_groups": min(GROUPS, *channels),
        "sample_size": sample_size,
        "mid_block_add_attention": attention,
        "scaling_factor": 1.0,
    }
    network = AutoencoderKL(**common) if regularisation == "kl" else VQModel(**common, num_vq_embeddings=num_codes)
    attend_in_float32(network)
    return network


def load_image_autoencoder(folder: Path) -> ImageAutoencoder:
    """Read an exported first stage.

    Raises:
        CheckpointError: the folder holds no first stage, or its weights do not fit.
    """
    return load_pretrained(AutoencoderKL, folder, VQModel)


def factor_of(autoencoder: ImageAutoencoder) -> int:
    """The factor f by which the first stage shrinks sides."""
    return 2 ** (len(autoencoder.config.block_out_channels) - 1)


def encoded(
    autoencoder: ImageAutoencoder, image: Float[Tensor, "b 3 s s"], noise: Float[Tensor, "b d h w"] | None = None
) -> Float[Tensor, "b d h w"]:
    """Scaled latents of images in [-1, 1]: the posterior's mode, or a sample of it given ``noise``, which a `VQModel` ignores."""
    scale = autoencoder.config.scaling_factor
    if isinstance(autoencoder, VQModel):
        return autoencoder.encode(image).latents * scale
    posterior = autoencoder.encode(image).latent_dist
    return (posterior.mean if noise is None else posterior.mean + posterior.std * noise) * scale


def decoded(autoencoder: ImageAutoencoder, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 s s"]:
    """Scaled latents → images in about [-1, 1]."""
    return autoencoder.decode(z / autoencoder.config.scaling_factor).sample
