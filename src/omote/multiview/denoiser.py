"""Multi-view denoisers: a protocol, and our own small network that implements it.

Views of a set are denoised together: self-attention runs over the tokens of all views (Shi et al., "MVDream", ICLR 2024, §3.1),
and the camera of each view is added to the time embedding. The network is a stock `UNet2DConditionModel`, made multi-view by an
attention processor and ``class_embed_type="projection"``; the same two changes make a Stable Diffusion U-Net multi-view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import path_scale
from omote.diffusion.objective import Prediction, velocity_of
from omote.geometry.rig import NUM_CAMERA, NUM_RAY, Rig, flattened, plucker_rays
from omote.head.expressions import CATEGORIES
from omote.nets.view_attention import ViewAttention
from omote.rgbd.codec import DEPTH, MASK

DepthPath = Literal["none", "concat", "added"]
# Depth and mask of a view are sampled at four times the latent resolution and stacked as channels.
DEPTH_PATCH = 4
NUM_DEPTH = 2 * DEPTH_PATCH**2
TEXT_WIDTH = 128


@dataclass(frozen=True, kw_only=True)
class ViewConditions:
    """Conditions of a set of views; missing ones are replaced by zeros or a null token.

    Attributes:
        source: scaled latents of the source views.
        depth: depth and mask of the source views (`depth_maps`).
        category: expression category, as an index into `CATEGORIES`; `NULL_CATEGORY` for none.
        intensity: intensity of the expression, [0, 1].
        text: text embedding for the denoiser; for ours, the token of the text conditioner (`omote.rgbd.conditions.text`).
        has_source, has_depth, has_text: whether each set has the condition.
    """

    source: Float[Tensor, "b v d h w"]
    depth: Float[Tensor, "b v k h w"]
    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]
    text: Float[Tensor, "b *k"]
    has_source: Bool[Tensor, "b"]
    has_depth: Bool[Tensor, "b"]
    has_text: Bool[Tensor, "b"]

    def to(self, device: torch.device) -> ViewConditions:
        """The same conditions on another device."""
        return ViewConditions(**{name: value.to(device) for name, value in vars(self).items()})

    def without(self, *kinds: Literal["source", "depth", "words"]) -> ViewConditions:
        """The same conditions without some kinds; ``words`` are text and category."""
        nothing = torch.zeros_like(self.has_source)
        changes: dict[str, Tensor] = {}
        if "source" in kinds:
            changes["has_source"] = nothing
        if "depth" in kinds:
            changes["has_depth"] = nothing
        if "words" in kinds:
            changes |= {"has_text": nothing, "category": torch.full_like(self.category, NULL_CATEGORY)}
        return replace(self, **changes)


NULL_CATEGORY = len(CATEGORIES)


@runtime_checkable
class MultiviewDenoiser(Protocol):
    """A denoiser of the latents of V views at once.

    ``latent_channels`` and ``latent_size`` are those of its first stage; ``rig`` holds the cameras that its views must come from;
    ``diffuses_change`` says whether the difference from the source's latents is denoised, or the target's latents themselves.
    """

    latent_channels: int
    latent_size: int
    diffuses_change: bool

    @property
    def rig(self) -> Rig:
        """The cameras, in the order of the views."""
        ...

    def velocity(
        self, z_t: Float[Tensor, "b v d h w"], t: Float[Tensor, "b"], conditions: ViewConditions
    ) -> Float[Tensor, "b v d h w"]:
        """Velocity of the straight path (`omote.diffusion.flow`) at time t, which all views of a set share."""
        ...


def depth_maps(x: Float[Tensor, "b v 5 s s"], latent_size: int) -> Float[Tensor, "b v k h w"]:
    """Depth and mask of packed views at the latent resolution: 4 × 4 values of each per latent pixel, as channels."""
    side = DEPTH_PATCH * latent_size
    flat = torch.cat([x[:, :, DEPTH], x[:, :, MASK]], dim=2).flatten(0, 1)
    maps = F.pixel_unshuffle(F.adaptive_avg_pool2d(flat, side), DEPTH_PATCH)
    return maps.unflatten(0, x.shape[:2])


class ViewUNet(ModelMixin, ConfigMixin):
    """Our own multi-view denoiser.

    Args:
        latent_size: side of a latent, pixels.
        latent_channels: channels of a view's latent.
        yaw_deg, pitch_deg, distance_mm, field_mm: parameters of the `Rig`.
        channels: channels of the U-Net at each resolution.
        attended: whether each resolution has attention; at 16² and finer, attention costs many times the rest of the network.
        layers_per_block: residual blocks per resolution.
        head_channels: number of channels per attention head.
        context_width: width of the tokens for cross-attention.
        depth: how the depth of the source views enters: not at all, as channels of the input, or through a small network whose
            output is added after the first convolution (as conditions are in Mou et al., "T2I-Adapter", AAAI 2024).
        rays: whether Plücker rays are part of the input.
        prediction: quantity that the U-Net predicts (`omote.diffusion.objective`).
    """

    diffuses_change = True

    @register_to_config
    def __init__(
        self,
        *,
        latent_size: int,
        latent_channels: int,
        yaw_deg: Sequence[float] = Rig.yaw_deg,
        pitch_deg: Sequence[float] = Rig.pitch_deg,
        distance_mm: float = Rig.distance_mm,
        field_mm: float = Rig.field_mm,
        channels: Sequence[int] = (64, 96, 128),
        attended: Sequence[bool] = (False, True, True),
        layers_per_block: int = 1,
        head_channels: int = 32,
        context_width: int = 128,
        depth: DepthPath = "concat",
        rays: bool = False,
        prediction: Prediction = "v",
    ) -> None:
        super().__init__()
        self.latent_channels, self.latent_size = latent_channels, latent_size
        read = 2 * latent_channels + (NUM_DEPTH if depth == "concat" else 0) + (NUM_RAY if rays else 0)

        self.unet = UNet2DConditionModel(
            sample_size=latent_size,
            in_channels=read,
            out_channels=latent_channels,
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            norm_num_groups=min(32, *channels),
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attended),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attended)),
            # This parameter of diffusers is in fact the number of heads.
            attention_head_dim=tuple(max(1, width // head_channels) for width in channels),
            cross_attention_dim=context_width,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=NUM_CAMERA,
        )
        self.unet.set_attn_processor(ViewAttention(len(yaw_deg)))

        self.adapter: nn.Sequential | None = None
        if depth == "added":
            last = nn.Conv2d(channels[0], channels[0], 3, padding=1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
            self.adapter = nn.Sequential(nn.Conv2d(NUM_DEPTH, channels[0], 3, padding=1), nn.SiLU(), last)
            self._added: Tensor | None = None
            self.unet.conv_in.register_forward_hook(lambda _module, _inputs, out: out + self._added)

        self.category = nn.Embedding(NULL_CATEGORY + 1, context_width)
        self.intensity = nn.Linear(1, context_width)
        self.text = nn.Linear(TEXT_WIDTH, context_width)
        self.no_text = nn.Parameter(torch.zeros(context_width))

        cameras = self.rig.cameras(latent_size)
        self.register_buffer("matrices", torch.from_numpy(flattened(cameras)), persistent=False)
        self.register_buffer("ray_maps", torch.from_numpy(plucker_rays(cameras, latent_size)), persistent=False)

    matrices: Tensor
    ray_maps: Tensor

    @property
    def rig(self) -> Rig:
        """The cameras, in the order of the views."""
        c: Any = self.config
        return Rig(
            yaw_deg=tuple(c.yaw_deg), pitch_deg=tuple(c.pitch_deg), distance_mm=c.distance_mm, field_mm=c.field_mm
        )

    def velocity(
        self, z_t: Float[Tensor, "b v d h w"], t: Float[Tensor, "b"], conditions: ViewConditions
    ) -> Float[Tensor, "b v d h w"]:
        """Velocity of the straight path at time t; see `MultiviewDenoiser.velocity`."""
        c: Any = self.config
        count, views = z_t.shape[:2]
        source = conditions.source * conditions.has_source.view(-1, 1, 1, 1, 1)
        depth = conditions.depth * conditions.has_depth.view(-1, 1, 1, 1, 1)
        parts = [z_t / path_scale(t).view(-1, 1, 1, 1, 1), source]
        if c.depth == "concat":
            parts.append(depth)
        if c.rays:
            parts.append(self.ray_maps.expand(count, -1, -1, -1, -1))
        if self.adapter is not None:
            self._added = self.adapter(depth.flatten(0, 1))
        out = self.unet(
            torch.cat(parts, dim=2).flatten(0, 1),
            1000 * t.repeat_interleave(views),
            encoder_hidden_states=self.context(conditions).repeat_interleave(views, dim=0),
            class_labels=self.matrices.repeat(count, 1),
            return_dict=False,
        )[0]
        flat = velocity_of(c.prediction, out.float(), z_t.flatten(0, 1), t.repeat_interleave(views))
        return flat.unflatten(0, (count, views))

    forward = velocity

    def context(self, conditions: ViewConditions) -> Float[Tensor, "b 2 c"]:
        """Tokens for cross-attention: one of the category with its intensity, one of the text."""
        known = (conditions.category != NULL_CATEGORY)[:, None]
        category = self.category(conditions.category) + known * self.intensity(conditions.intensity[:, None])
        text = torch.where(conditions.has_text[:, None], self.text(conditions.text), self.no_text)
        return torch.stack([category, text], dim=1)
