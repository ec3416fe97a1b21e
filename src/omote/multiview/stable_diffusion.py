"""Stable Diffusion as the networks of candidate 1: its VAE as first stage, its U-Net as multi-view denoiser.

The target's latents themselves are diffused, as in the checkpoint's own training, and not their difference from the source's. The
source's latents and the depth maps are further input channels with zero weights at first (Brooks et al., "InstructPix2Pix", CVPR
2023, §3.2); a category is a further token beside the text's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from omote.engine.weights import load_pretrained
from omote.geometry.rig import Rig, flattened
from omote.images.first_stage import decoded, encoded, factor_of
from omote.images.stable_diffusion.extend import extended
from omote.images.stable_diffusion.model import StableDiffusion
from omote.images.stable_diffusion.text import ClipTokenizer, encoded_text, text_encoder
from omote.multiview.denoiser import NULL_CATEGORY, NUM_DEPTH, ViewConditions
from omote.nets.view_attention import ViewAttention
from omote.rgbd.codec import MASK, RGB


class StableDiffusionStage(nn.Module):
    """Stable Diffusion's VAE as a `ViewFirstStage` of colour; depth and mask are kept.

    Args:
        vae: ``AutoencoderKL``.
        size: side of a view, pixels.
    """

    channels: tuple[int, ...] = (0, 1, 2)

    def __init__(self, vae: Any, size: int) -> None:
        super().__init__()
        self.vae, self.image_size = vae, size
        self.latent_channels = int(vae.config.latent_channels)
        self.latent_size = size // factor_of(vae)

    def encoded(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Scaled latents of the colours."""
        return encoded(self.vae, x[:, RGB])

    def decoded(
        self, z: Float[Tensor, "b d h w"], like: Float[Tensor, "b 5 s s"] | None = None
    ) -> Float[Tensor, "b 5 s s"]:
        """Packed views with depth and mask of ``like``; without it, of no depth and full masks."""
        rgb = decoded(self.vae, z)
        if like is None:
            return torch.cat([rgb, torch.zeros_like(rgb[:, :1]), torch.ones_like(rgb[:, :1])], dim=1)
        return torch.cat([rgb * (like[:, MASK] > 0), like[:, 3:].to(rgb)], dim=1)


def load_stage(folder: Path, latent_size: int) -> StableDiffusionStage:
    """Load an exported VAE, for latents of a size.

    Raises:
        CheckpointError: the weights are missing or damaged.
    """
    vae: Any = load_pretrained(AutoencoderKL, folder)
    return StableDiffusionStage(vae, latent_size * factor_of(vae))


class StableDiffusionViews(ModelMixin, ConfigMixin):
    """Stable Diffusion's U-Net and text encoder as a `MultiviewDenoiser`.

    Args:
        unet_config: config of the extended ``UNet2DConditionModel``.
        text_config: config of the ``CLIPTextModel``.
        scheduler_config: config of the noise schedule.
        pad_id: id of the padding of texts.
        latent_size: side of a latent, pixels.
        yaw_deg, pitch_deg, distance_mm, field_mm: parameters of the `Rig`.
        depth: whether the depth of the source views is read.
    """

    diffuses_change = False

    @register_to_config
    def __init__(
        self,
        *,
        unet_config: Mapping[str, Any],
        text_config: Mapping[str, Any],
        scheduler_config: Mapping[str, Any],
        pad_id: int,
        latent_size: int,
        yaw_deg: Sequence[float],
        pitch_deg: Sequence[float],
        distance_mm: float,
        field_mm: float,
        depth: bool = True,
    ) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel.from_config(dict(unet_config))
        self.unet.set_attn_processor(ViewAttention(len(yaw_deg)))
        self.text_encoder = text_encoder(text_config).requires_grad_(False)
        self.latent_channels, self.latent_size = int(self.unet.config.out_channels), latent_size
        width = int(self.unet.config.cross_attention_dim)
        self.category = nn.Embedding(NULL_CATEGORY + 1, width)
        self.intensity = nn.Linear(1, width)
        for weight in (self.category.weight, self.intensity.weight, self.intensity.bias):
            nn.init.zeros_(weight)
        self.tokenizer = ClipTokenizer(pad_id=pad_id)
        self.register_buffer("matrices", torch.from_numpy(flattened(self.rig.cameras(latent_size))), persistent=False)

    matrices: Tensor

    @property
    def rig(self) -> Rig:
        """The cameras, in the order of the views."""
        c: Any = self.config
        return Rig(
            yaw_deg=tuple(c.yaw_deg), pitch_deg=tuple(c.pitch_deg), distance_mm=c.distance_mm, field_mm=c.field_mm
        )

    @property
    def model(self) -> StableDiffusion:
        """The networks as a checkpoint, for its velocity and objective; it has no VAE."""
        return StableDiffusion(
            unet=self.unet,
            vae=None,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            scheduler=dict(self.config.scheduler_config),
        )

    def read_texts(self, texts: Sequence[str]) -> Float[Tensor, "b 77"]:
        """Texts as `ViewConditions` hold them: token ids."""
        return self.tokenizer(texts).float()

    def velocity(
        self, z_t: Float[Tensor, "b v d h w"], t: Float[Tensor, "b"], conditions: ViewConditions
    ) -> Float[Tensor, "b v d h w"]:
        """Velocity of the straight path at time t; see `MultiviewDenoiser.velocity`."""
        count, views = z_t.shape[:2]
        more = [conditions.source * conditions.has_source.view(-1, 1, 1, 1, 1)]
        if self.config.depth:
            more.append(conditions.depth * conditions.has_depth.view(-1, 1, 1, 1, 1))
        flat = self.model.velocity(
            z_t.flatten(0, 1),
            t.repeat_interleave(views),
            self.context(conditions).repeat_interleave(views, dim=0),
            self.matrices.repeat(count, 1),
            more=torch.cat(more, dim=2).flatten(0, 1),
        )
        return flat.unflatten(0, (count, views))

    forward = velocity

    def context(self, conditions: ViewConditions) -> Float[Tensor, "b n c"]:
        """The text's states, and a token of the category with its intensity."""
        ids = self.tokenizer([""]).repeat(len(conditions.category), 1).to(conditions.category.device)
        if bool(conditions.has_text.any()):
            ids[conditions.has_text] = conditions.text[conditions.has_text].long()
        known = (conditions.category != NULL_CATEGORY)[:, None]
        category = self.category(conditions.category) + known * self.intensity(conditions.intensity[:, None])
        return torch.cat([encoded_text(self.text_encoder, ids), category[:, None]], dim=1)


def views_denoiser(base: StableDiffusion, rig: Rig, *, latent_size: int, depth: bool) -> StableDiffusionViews:
    """The denoiser of candidate 1 with a checkpoint's weights.

    Args:
        base: stock checkpoint.
        rig: cameras of the views.
        latent_size: side of a latent, pixels.
        depth: whether to read the depth of the source views.
    """
    more = base.latent_channels + (NUM_DEPTH if depth else 0)
    unet = extended(base.unet, num_views=rig.num_views, more_inputs=more)
    made = StableDiffusionViews(
        unet_config=dict(unet.config),
        text_config=base.text_encoder.config.to_diff_dict(),
        scheduler_config=dict(base.scheduler),
        pad_id=base.tokenizer.pad_id,
        latent_size=latent_size,
        **vars(rig),
        depth=depth,
    )
    made.unet.load_state_dict(unet.state_dict())
    made.text_encoder.load_state_dict(base.text_encoder.state_dict())
    return made
