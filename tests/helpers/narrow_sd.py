"""A structurally exact Stable Diffusion 1.5, narrow and untrained."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from omote.images.stable_diffusion.checkpoint import SCHEDULE, save_stable_diffusion
from omote.images.stable_diffusion.model import StableDiffusion
from omote.images.stable_diffusion.text import ClipTokenizer, text_encoder

WIDTH = 64


def narrow_unet(**changes: Any) -> UNet2DConditionModel:
    """SD 1.5's U-Net with a tenth of its widths or less: every layer, block and name is the same."""
    torch.manual_seed(0)
    config = {"sample_size": 8, "block_out_channels": (32, 64, 96, 96), "cross_attention_dim": WIDTH}
    return UNet2DConditionModel(**{**config, "attention_head_dim": 8, **changes}).eval()


def narrow_sd(prediction: str = "epsilon") -> StableDiffusion:
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 96, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=64,
    )
    text = text_encoder(
        {
            "vocab_size": 49408,
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "projection_dim": WIDTH,
            "hidden_act": "quick_gelu",
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        }
    )
    return StableDiffusion(
        unet=narrow_unet(),
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=ClipTokenizer(),
        scheduler={**SCHEDULE, "prediction_type": prediction},
    )


def narrow_folder(folder: Path) -> Path:
    save_stable_diffusion(narrow_sd(), folder)
    return folder
