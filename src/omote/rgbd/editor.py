"""The second stage: a conditional U-Net on latents (Rombach et al., CVPR 2022, §3.2-3.3), predicting a flow.

What diffuses is the *difference* between the wanted and the source latent, in units of its own deviation: the network
spends itself on what changes, and the identity is what it need not touch. The source latent is concatenated to the input;
the expression reaches it by cross-attention, with Q from the U-Net's features and K, V from the conditioner's tokens, and,
where ARKit weights are given, as a motion image of the source and the source latent moved by it. An image of the wanted
geometry (`omote.rgbd.conditions.geometry`) is concatenated, read by cross-attention, or both; identity coefficients are one more
token.

The same network draws people. Then there is no source to differ from: what diffuses is the whole latent, in units of its own
deviation, and the mean person stands in the source's place. Where the moved source is most of an edit, the best guess of a
Gaussian (`omote.rgbd.population_prior`) is most of a person, and the network learns what it misses.
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

from omote.diffusion.flow import path_scale
from omote.diffusion.objective import Prediction, velocity_of
from omote.rgbd.codec import DEPTH_SCALE_MM
from omote.rgbd.conditions import motion as motion_of
from omote.rgbd.conditions.base import Condition, ExpressionConditioner
from omote.rgbd.conditions.geometry import (
    NUM_CHANNELS,
    GeometryKind,
    GeometryPath,
    GeometryTokens,
    IdentityToken,
    geometry_image,
)
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.population_prior import EARLIEST, PopulationPrior


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything of the condition that a step reads; computed once per edit.

    Attributes:
        tokens: for cross-attention.
        pooled: for the time embedding.
        motion: motion image of the source; 0 where no weights are given.
        moved: the difference that moving the source latent by it makes, in the units that diffuse.
        geometry: image of the wanted geometry, 0 where it is not given; None if none is concatenated.
        draws: where a person is drawn; None where all have a source.
    """

    tokens: Float[Tensor, "b n k"]
    pooled: Float[Tensor, "b k"]
    motion: Float[Tensor, "b 9 m m"]
    moved: Float[Tensor, "b d h w"]
    geometry: Float[Tensor, "b c r r"] | None = None
    draws: Bool[Tensor, "b"] | None = None


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
        prediction: what the U-Net says (`omote.diffusion.objective`); `forward` gives the velocity whatever it is.
        draws: with the Gaussian of a population, to draw people where there is no source.
        geometry: the image of the wanted geometry that can be given, or "none".
        geometry_by: the way or ways it takes.
        num_identity: identity coefficients that can be given as a token; 0 for none.
        few_steps: distilled to few steps: the network reads the noise itself, also at t = 1 where an editor of many steps need
            not, and how long its step is (Frans et al., "One Step Diffusion via Shortcut Models", ICLR 2025, §3).
        folded_guidance: the guidance scale of the teacher that it was distilled from.
        unit_style: it was trained on faces that move by the units of people like them, not by the shipped head's alone.
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
        draws: bool = False,
        geometry: GeometryKind = "none",
        geometry_by: GeometryPath = "both",
        num_identity: int = 0,
        few_steps: bool = False,
        folded_guidance: float = 1.0,
        unit_style: bool = True,
    ) -> None:
        super().__init__()
        deeper = len(channels) - 1
        self.motion_patch = motion_of.READ_SIZE // (sample_size // patch)
        # What not every network reads comes last, so that one that does not can be extended (`training.warm_start`).
        shown = NUM_CHANNELS[geometry]
        concatenated = shown if geometry_by in ("concat", "both") else 0
        self.concatenates = concatenated > 0
        self.unet = UNet2DConditionModel(
            sample_size=sample_size // patch,
            in_channels=(3 + few_steps) * latent_channels * patch**2
            + (motion_of.NUM_READ + concatenated) * self.motion_patch**2,
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
        by_tokens = shown > 0 and geometry_by in ("tokens", "both")
        self.geometry_tokens = GeometryTokens(shown, context_width) if by_tokens else None
        self.identity_token = IdentityToken(num_identity, context_width) if num_identity > 0 else None
        self.locator = motion_of.LandmarkLocator(latent_channels, sample_size)
        # Around the U-Net: the source moved by the flow is most of an edit, and need not be learned.
        self.straight = nn.Conv2d(latent_channels + motion_of.NUM_READ, latent_channels, 1, bias=False)
        nn.init.zeros_(self.straight.weight)
        with torch.no_grad():
            self.straight.weight[range(latent_channels), range(latent_channels)] = 0.7
        self.people = PopulationPrior(latent_channels, sample_size) if draws else None
        # Says to every layer that there is no source.
        self.nobody = nn.Parameter(torch.zeros(context_width)) if draws else None
        self.step_length = StepLength(context_width) if few_steps else None
        # The autoencoder's units, see `use_units_of`.
        self.register_buffer("latent_std", torch.ones(latent_channels, 1, 1))
        self.register_buffer("delta_std", torch.ones(latent_channels, 1, 1))
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def use_units_of(self, autoencoder: FirstStage) -> None:
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
            z_t: scaled difference at time t (noise at t = 1, clean at t = 0); the scaled latent where a person is drawn.
            t: [0, 1].
            source: scaled source latent; any where a person is drawn.
            condition: what is wanted.
        """
        source = self.source_or_mean(source, condition)
        return self.velocity(z_t, t, source, self.context(source, condition))

    def source_or_mean(self, source: Float[Tensor, "b d h w"], condition: Condition) -> Float[Tensor, "b d h w"]:
        """What stands in the source's place: the mean person where one is drawn.

        Raises:
            ValueError: a person is to be drawn by a network without ``draws``.
        """
        if condition.draws is None:
            return source
        if self.people is None:
            raise ValueError("condition.draws needs an editor with draws = True")
        return torch.where(condition.draws.view(-1, 1, 1, 1), self.people.mean, source)

    def context(self, source: Float[Tensor, "b d h w"], condition: Condition) -> Context:
        """What `velocity` reads of a condition.

        Args:
            source: scaled source latent, or the mean person's (`source_or_mean`).
            condition: what is wanted.
        """
        tokens, pooled = self.conditioner(condition)
        shown, given = self._geometry(condition)
        more = []
        if self.geometry_tokens is not None:
            more.append(self.geometry_tokens(shown, given))
        if self.identity_token is not None:
            more.append(self._identity(condition))
        tokens = torch.cat([tokens, *more], dim=1)
        motion = condition.motion
        difference = (motion_of.warped(source, motion) - source) * self.latent_std
        nearer = motion_of.resized(motion[:, motion_of.NEARER], self.config.sample_size)
        nearer = nearer * (motion_of.DEPTH_UNIT_MM / DEPTH_SCALE_MM)
        difference = torch.cat([difference[:, :3], difference[:, 3:4] + nearer, difference[:, 4:]], dim=1)
        if condition.draws is not None and self.nobody is not None:
            pooled = pooled + condition.draws[:, None] * self.nobody
        return Context(
            tokens=tokens,
            pooled=pooled,
            motion=motion,
            moved=difference / self.delta_std,
            geometry=shown * given.view(-1, 1, 1, 1) if self.concatenates else None,
            draws=condition.draws,
        )

    def for_steps(self, context: Context, length: Float[Tensor, "b"]) -> Context:
        """The context of steps of a length in t; the same for an editor that does not read it."""
        if self.step_length is None:
            return context
        return replace(context, pooled=context.pooled + self.step_length(length))

    def _geometry(self, condition: Condition) -> tuple[Float[Tensor, "b c r r"], Bool[Tensor, "b"]]:
        """The image, and where it is given."""
        kind = self.config.geometry
        if kind == "none" or condition.geometry is None or condition.has_geometry is None:
            none = condition.motion.new_zeros(len(condition.motion), NUM_CHANNELS[kind], *2 * (motion_of.READ_SIZE,))
            return none, torch.zeros_like(condition.has_category)
        return geometry_image(condition.geometry, kind), condition.has_geometry

    def _identity(self, condition: Condition) -> Float[Tensor, "b 1 w"]:
        assert self.identity_token is not None
        if condition.identity is None or condition.has_identity is None:
            none = condition.motion.new_zeros(len(condition.motion), self.config.num_identity)
            return self.identity_token(none, torch.zeros_like(condition.has_category))
        return self.identity_token(condition.identity, condition.has_identity)

    def _coarse(self, motion: Tensor) -> Tensor:
        return motion_of.resized(motion[:, motion_of.READ], self.config.sample_size)

    def velocity(self, z_t: Tensor, t: Tensor, source: Tensor, context: Context) -> Tensor:
        """`forward` with the condition already encoded: the part that runs at every step."""
        scale = path_scale(t).view(-1, 1, 1, 1)
        # The network sees the linear estimate of z_0: noise enters only as far as it tells something, and not at t = 1.
        estimate = (1 - t).view(-1, 1, 1, 1) / scale**2 * z_t
        moved = context.moved
        if context.draws is not None and self.people is not None:
            drawn, expected = context.draws.view(-1, 1, 1, 1), self.people.expected(z_t, t)
            moved = torch.where(drawn, expected, moved)
        x = F.pixel_unshuffle(torch.cat([estimate, source, moved], dim=1), self.config.patch)
        read = motion_of.resized(context.motion[:, motion_of.READ], motion_of.READ_SIZE)
        read = read if context.geometry is None else torch.cat([read, context.geometry], dim=1)
        x = torch.cat([x, F.pixel_unshuffle(read, self.motion_patch)], dim=1)
        if self.step_length is not None:
            x = torch.cat([x, F.pixel_unshuffle(z_t / scale, self.config.patch)], dim=1)
        out = self.unet(
            x, 1000 * t, encoder_hidden_states=context.tokens, class_labels=context.pooled, return_dict=False
        )[0]
        out = F.pixel_shuffle(out, self.config.patch)
        velocity = velocity_of(self.config.prediction, out, z_t, t)
        straight = self.straight(torch.cat([context.moved, self._coarse(context.motion)], dim=1))
        velocity = velocity - t.view(-1, 1, 1, 1) / scale**2 * straight
        if context.draws is None or self.people is None:
            return velocity
        # ε - z_0 = (z_t - z_0) / t. What the guess of z_0 misses is of the size of t, so that the network's share is of one.
        guessed = (z_t - expected) / t.clamp_min(EARLIEST).view(-1, 1, 1, 1)
        return torch.where(drawn, guessed - out / scale, velocity)


class StepLength(nn.Module):
    """The length of a step in t, as part of the time embedding; nothing at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        last = self.embed[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, length: Float[Tensor, "b"]) -> Float[Tensor, "b w"]:
        """Lengths in (0, 1], by their logarithm."""
        shown: Tensor = self.embed(torch.log2(length)[:, None])
        return shown
