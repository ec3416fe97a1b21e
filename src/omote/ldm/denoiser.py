"""The second stage: a conditional U-Net on latents (Rombach et al., CVPR 2022, §3.2-3.3), predicting a flow.

What diffuses is the *difference* between the wanted and the source latent, in units of its own deviation: the network
spends itself on what changes, and the identity is what it need not touch. The source latent is concatenated to the input;
the expression reaches it by cross-attention, with Q from the U-Net's features and K, V from the conditioner's tokens, and,
where ARKit weights are given, as a motion image of the source and the source latent moved by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.ldm import motion as motion_of
from omote.ldm.autoencoder import RgbdAutoencoder
from omote.ldm.conditioners import Condition, ExpressionConditioner
from omote.ldm.objective import Prediction, velocity_of
from omote.ldm.representation import DEPTH_SCALE_MM


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything of the condition that a step reads; computed once per edit.

    Attributes:
        tokens: for cross-attention.
        pooled: for the time embedding.
        motion: motion image of the source; 0 where no weights are given.
        moved: the difference that moving the source latent by it makes, in the units that diffuse.
    """

    tokens: Float[Tensor, "b n k"]
    pooled: Float[Tensor, "b k"]
    motion: Float[Tensor, "b 9 m m"]
    moved: Float[Tensor, "b d h w"]


class LatentEditor(ModelMixin, ConfigMixin):
    """Denoiser of latent differences: diffusers' ``UNet2DConditionModel`` and the expression conditioner.

    Args:
        sample_size: latent pixels of a side.
        patch: the U-Net works on patch × patch latent pixels at once (as channels), so that a latent of low f costs
            what one of high f does.
        latent_channels: of the autoencoder's latent.
        channels: U-Net widths per resolution; the first has no attention.
        layers_per_block: residual blocks per resolution.
        context_width: of a condition token.
        head_channels: of an attention head.
        prediction: what the U-Net says (`omote.ldm.objective`); `forward` gives the velocity whatever it is.
    """

    latent_std: Tensor
    delta_std: Tensor

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        latent_channels: int = 9,
        patch: int = 2,
        channels: Sequence[int] = (64, 128, 128),
        layers_per_block: int = 1,
        context_width: int = 128,
        head_channels: int = 32,
        prediction: Prediction = "v",
    ) -> None:
        super().__init__()
        deeper = len(channels) - 1
        self.motion_patch = motion_of.READ_SIZE // (sample_size // patch)
        self.unet = UNet2DConditionModel(
            sample_size=sample_size // patch,
            in_channels=3 * latent_channels * patch**2 + motion_of.NUM_READ * self.motion_patch**2,
            out_channels=latent_channels * patch**2,
            down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deeper,
            up_block_types=("CrossAttnUpBlock2D",) * deeper + ("UpBlock2D",),
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            cross_attention_dim=context_width,
            attention_head_dim=tuple(max(1, c // head_channels) for c in channels),
            norm_num_groups=16,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=context_width,
            resnet_time_scale_shift="scale_shift",
        )
        self.conditioner = ExpressionConditioner(context_width)
        self.locator = motion_of.LandmarkLocator(latent_channels, sample_size)
        # Around the U-Net: the source moved by the flow is most of an edit, and need not be learned.
        self.straight = nn.Conv2d(latent_channels + motion_of.NUM_READ, latent_channels, 1, bias=False)
        nn.init.zeros_(self.straight.weight)
        with torch.no_grad():
            self.straight.weight[range(latent_channels), range(latent_channels)] = 0.7
        # The autoencoder's units, see `use_units_of`.
        self.register_buffer("latent_std", torch.ones(latent_channels, 1, 1))
        self.register_buffer("delta_std", torch.ones(latent_channels, 1, 1))
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def use_units_of(self, autoencoder: RgbdAutoencoder) -> None:
        """Take over the deviations of its latents and of their differences."""
        self.latent_std.copy_(autoencoder.latent_std)
        self.delta_std.copy_(autoencoder.delta_std)

    def forward(
        self,
        z_t: Float[Tensor, "b d h w"],
        t: Float[Tensor, "b"],
        source: Float[Tensor, "b d h w"],
        condition: Condition,
    ) -> Float[Tensor, "b d h w"]:
        """The flow's velocity at time t.

        Args:
            z_t: scaled difference at time t (noise at t = 1, clean at t = 0).
            t: [0, 1].
            source: scaled source latent.
            condition: what is wanted.
        """
        return self.velocity(z_t, t, source, self.context(source, condition))

    def context(self, source: Float[Tensor, "b d h w"], condition: Condition) -> Context:
        """What `velocity` reads of a condition.

        Args:
            source: scaled source latent.
            condition: what is wanted.
        """
        tokens, pooled = self.conditioner(condition)
        motion = condition.motion
        difference = (motion_of.warped(source, motion) - source) * self.latent_std
        nearer = self._coarse(motion)[:, motion_of.NEARER] * (motion_of.DEPTH_UNIT_MM / DEPTH_SCALE_MM)
        difference = torch.cat([difference[:, :3], difference[:, 3:4] + nearer, difference[:, 4:]], dim=1)
        return Context(tokens=tokens, pooled=pooled, motion=motion, moved=difference / self.delta_std)

    def _coarse(self, motion: Tensor) -> Tensor:
        return motion_of.resized(motion[:, motion_of.READ], self.config.sample_size)

    def velocity(self, z_t: Tensor, t: Tensor, source: Tensor, context: Context) -> Tensor:
        """`forward` with the condition already encoded: the part that runs at every step."""
        scale = path_scale(t).view(-1, 1, 1, 1)
        # The network sees the linear estimate of z_0: noise enters only as far as it tells something, and not at t = 1.
        estimate = (1 - t).view(-1, 1, 1, 1) / scale**2 * z_t
        x = F.pixel_unshuffle(torch.cat([estimate, source, context.moved], dim=1), self.config.patch)
        read = motion_of.resized(context.motion[:, motion_of.READ], motion_of.READ_SIZE)
        x = torch.cat([x, F.pixel_unshuffle(read, self.motion_patch)], dim=1)
        out = self.unet(
            x, 1000 * t, encoder_hidden_states=context.tokens, class_labels=context.pooled, return_dict=False
        )[0]
        velocity = velocity_of(self.config.prediction, F.pixel_shuffle(out, self.config.patch), z_t, t)
        straight = self.straight(torch.cat([context.moved, self._coarse(context.motion)], dim=1))
        return velocity - t.view(-1, 1, 1, 1) / scale**2 * straight


def path_scale(t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Deviation of z_t for data of unit deviation: s = √((1-t)² + t²) (`omote.ldm.objective`).

    v prediction is the preconditioning of EDM (Karras et al. 2022, table 1) for this path: its target has unit deviation at
    every t and the network never has to copy noise to its output.
    """
    return torch.sqrt((1 - t) ** 2 + t**2)


def drop_conditions(
    condition: Condition, draw: Float[Tensor, "b"], *, category: float, arkit: float, both: float
) -> Condition:
    """Guidance dropout: forget the category, the weights, or both, with the given probabilities per item.

    Args:
        condition: what is known.
        draw: uniform in [0, 1).
        category: probability of forgetting it.
        arkit: of the weights.
        both: of both.
    """
    keep_category: Bool[Tensor, "b"] = draw >= category + both
    keep_arkit = (draw < category) | (draw >= category + both + arkit)
    return replace(
        condition,
        has_category=condition.has_category & keep_category,
        has_arkit=condition.has_arkit & keep_arkit,
        motion=condition.motion * keep_arkit.view(-1, 1, 1, 1),
    )
