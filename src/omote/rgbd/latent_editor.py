"""The second stage: a conditional U-Net on latents (Rombach et al., CVPR 2022, §3.2-3.3), predicting a flow.

The network denoises the *difference* between the target and the source latent, in units of its standard deviation, so that its
capacity goes into what changes, and a zero output preserves the person. The source latent is concatenated to the input, and
so is the source latent warped by the motion image if ARKit weights are given. Other conditions reach the network through their
readers (`omote.rgbd.conditions`), by cross-attention or concatenated to the input.

The same network samples whole persons without a source. It then denoises the whole latent, in units of its standard deviation,
with the population's mean in place of the source. As the warped source is a first estimate of an edit, the posterior mean under
a Gaussian (`omote.rgbd.population_prior`) is a first estimate of a person, and the network learns the remainder.
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
from omote.nets.precision import attend_in_float32, keep_float32
from omote.rgbd.codec import DEPTH_SCALE_MM
from omote.rgbd.conditions.base import READ_SIZE, Condition, NumbersReader, kind_named
from omote.rgbd.conditions.conditioner import Conditioner
from omote.rgbd.conditions.geometry import (
    Geometry,
    GeometryKind,
    GeometryPath,
    GeometryReader,
    concatenated_channels,
)
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.conditions.motion import motion_of
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.locator import LandmarkLocator
from omote.rgbd.population_prior import EARLIEST, PopulationPrior
from omote.rgbd.warp import DEPTH_UNIT_MM, NUM_READ, READ, RECEDING, resized, warped


@dataclass(frozen=True, kw_only=True)
class Context:
    """The encoded source and condition, input of every step; computed once per edit.

    Attributes:
        tokens: tokens for cross-attention.
        pooled: pooled vector for the time embedding.
        channels: channels concatenated to the denoiser's input.
        moved: difference between the warped and the unmoved source latent, in the units of the diffusion.
        guess: linear guess of the clean difference, from ``moved`` and the motion image.
        drawn: items that are sampled without a source; None if all have one.
    """

    tokens: Float[Tensor, "b n k"]
    pooled: Float[Tensor, "b k"]
    channels: Float[Tensor, "b c r r"]
    moved: Float[Tensor, "b d h w"]
    guess: Float[Tensor, "b d h w"]
    drawn: Bool[Tensor, "b"] | None = None


class LatentEditor(ModelMixin, ConfigMixin):
    """Denoiser of latent differences: diffusers' ``UNet2DConditionModel`` behind a `Conditioner`.

    Args:
        sample_size: latent pixels of a side.
        patch: latent pixels of a side that the U-Net reads at once (as channels), so that a latent of low f costs what one of
            high f does.
        latent_channels: channels of the autoencoder's latent.
        channels: U-Net widths per resolution; the first has no attention.
        layers_per_block: residual blocks per resolution.
        context_width: width of a condition token.
        head_channels: channels of an attention head.
        prediction: quantity that the U-Net predicts (`omote.diffusion.objective`); `forward` always returns the velocity.
        draws: whether the network can sample persons without a source, and has the Gaussian of a population for it.
        geometry: kind of geometry image that is read (depth or normals), or "none".
        geometry_by: route of that image into the network.
        num_identity: number of identity coefficients that are read as a token; 0 for none.
        kinds: names of further kinds of condition that are read.
        few_steps: whether the network is distilled to few steps; it then also reads the noise itself, which other editors
            ignore at t = 1, and the length of its step (Frans et al., "One Step Diffusion via Shortcut Models", ICLR 2025, §3).
        folded_guidance: guidance scale of the teacher in that distillation.
        unit_style: whether training faces move their units in individual styles (`HeadModel.unit_style`).
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
        kinds: Sequence[str] = (),
        few_steps: bool = False,
        folded_guidance: float = 1.0,
        unit_style: bool = True,
    ) -> None:
        super().__init__()
        deeper = len(channels) - 1
        self.motion_patch = READ_SIZE // (sample_size // patch)
        further = {kind: kind.reader(context_width) for kind in map(kind_named, kinds)}
        read = NUM_READ + concatenated_channels(geometry, geometry_by) + sum(r.num_channels for r in further.values())

        self.unet = UNet2DConditionModel(
            sample_size=sample_size // patch,
            # Channels that only some editors read come last, so that the others can be extended (`omote.engine.weights`).
            in_channels=(3 + few_steps) * latent_channels * patch**2 + read * self.motion_patch**2,
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
        attend_in_float32(self.unet)

        self.conditioner = Conditioner(context_width)
        if geometry != "none":
            self.conditioner.add(Geometry, GeometryReader(geometry, geometry_by, context_width))
        if num_identity:
            self.conditioner.add(Identity, NumbersReader(context_width, num_identity))
        for kind, reader in further.items():
            self.conditioner.add(kind, reader)
        self.locator = LandmarkLocator(latent_channels, sample_size)

        # A linear path around the U-Net: the warped source is most of an edit, and the U-Net need not learn it.
        self.straight = nn.Conv2d(latent_channels + NUM_READ, latent_channels, 1, bias=False)
        nn.init.zeros_(self.straight.weight)
        with torch.no_grad():
            self.straight.weight[range(latent_channels), range(latent_channels)] = 0.7

        self.people = PopulationPrior(latent_channels, sample_size) if draws else None
        # Added to the time embedding of items without a source, so that every layer can distinguish them.
        self.nobody = nn.Parameter(torch.zeros(context_width)) if draws else None
        self.step_length = StepLength(context_width) if few_steps else None

        # The autoencoder's units, see `use_units_of`.
        self.register_buffer("latent_std", torch.ones(latent_channels, 1, 1))
        self.register_buffer("delta_std", torch.ones(latent_channels, 1, 1))
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)
        # Outputs that are used directly, and need float32: the velocity, and landmarks in pixels.
        for head in (self.unet.conv_out, self.straight, self.locator):
            keep_float32(head)

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
        drawn: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b d h w"]:
        """The flow's velocity at time t.

        Args:
            z_t: scaled difference at time t (noise at t = 1, clean at t = 0); scaled latent of the items in ``drawn``.
            t: [0, 1].
            source: scaled source latent; ignored for the items in ``drawn``.
            condition: wanted condition.
            drawn: items that are sampled without a source; None if all have one.

        Raises:
            ValueError: ``drawn`` given to a network without ``draws``.
        """
        source = self.source_or_mean(source, drawn)
        return self.velocity(z_t, t, source, self.context(source, condition, drawn))

    def source_or_mean(
        self, source: Float[Tensor, "b d h w"], drawn: Bool[Tensor, "b"] | None
    ) -> Float[Tensor, "b d h w"]:
        """The source latents, with the population's mean for the items in ``drawn``.

        Raises:
            ValueError: ``drawn`` given to a network without ``draws``.
        """
        if drawn is None:
            return source
        if self.people is None:
            raise ValueError("drawn: expected None for an editor without draws = True")
        return torch.where(drawn.view(-1, 1, 1, 1), self.people.mean, source)

    def context(
        self, source: Float[Tensor, "b d h w"], condition: Condition, drawn: Bool[Tensor, "b"] | None = None
    ) -> Context:
        """What `velocity` reads of a source and a condition.

        Args:
            source: scaled source latent, or the population's mean (`source_or_mean`).
            condition: wanted condition.
            drawn: items that are sampled without a source; None if all have one.
        """
        tokens, pooled, channels = self.conditioner(condition)
        if drawn is not None and self.nobody is not None:
            pooled = pooled + drawn[:, None] * self.nobody
        motion = motion_of(condition, source)
        # `warp.moved` of the unscaled latent, whose depth channel is in `DEPTH_SCALE_MM`.
        receding = resized(motion[:, RECEDING], self.config.sample_size) * (DEPTH_UNIT_MM / DEPTH_SCALE_MM)
        difference = (warped(source, motion) - source) * self.latent_std
        difference = (
            torch.cat([difference[:, :3], difference[:, 3:4] + receding, difference[:, 4:]], dim=1) / self.delta_std
        )
        coarse = resized(motion[:, READ], self.config.sample_size)
        guess = self.straight(torch.cat([difference, coarse], dim=1))
        return Context(tokens=tokens, pooled=pooled, channels=channels, moved=difference, guess=guess, drawn=drawn)

    def for_steps(self, context: Context, length: Float[Tensor, "b"]) -> Context:
        """The context of steps with a length in t; unchanged for an editor that does not read the length."""
        if self.step_length is None:
            return context
        return replace(context, pooled=context.pooled + self.step_length(length))

    def velocity(self, z_t: Tensor, t: Tensor, source: Tensor, context: Context) -> Tensor:
        """`forward` with the condition already encoded: the part that runs at every step."""
        scale, time = path_scale(t).view(-1, 1, 1, 1), t.view(-1, 1, 1, 1)
        # The network sees the linear estimate of z_0, in which noise is weighted by its information: not at all at t = 1.
        estimate = (1 - time) / scale**2 * z_t
        nearer, drawn, expected = context.moved, None, None
        if context.drawn is not None and self.people is not None:
            drawn, expected = context.drawn.view(-1, 1, 1, 1), self.people.expected(z_t, t)
            nearer = torch.where(drawn, expected, nearer)

        x = [F.pixel_unshuffle(torch.cat([estimate, source, nearer], dim=1), self.config.patch)]
        x.append(F.pixel_unshuffle(context.channels, self.motion_patch))
        if self.step_length is not None:
            x.append(F.pixel_unshuffle(z_t / scale, self.config.patch))
        out = self.unet(
            torch.cat(x, dim=1),
            1000 * t,
            encoder_hidden_states=context.tokens,
            class_labels=context.pooled,
            return_dict=False,
        )[0]
        out = F.pixel_shuffle(out, self.config.patch)

        velocity = velocity_of(self.config.prediction, out, z_t, t) - time / scale**2 * context.guess
        if drawn is None or expected is None:
            return velocity
        # ε - z_0 = (z_t - z_0) / t. The error of the estimated z_0 is of order t, so that the network's output is of order 1.
        guessed = (z_t - expected) / t.clamp_min(EARLIEST).view(-1, 1, 1, 1)
        return torch.where(drawn, guessed - out / scale, velocity)


class StepLength(nn.Module):
    """Embedding of a step's length in t, added to the time embedding; zero at initialisation."""

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
