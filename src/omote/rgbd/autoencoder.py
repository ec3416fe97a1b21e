"""The first stage: an RGB-D autoencoder, KL- or VQ-regularised (Rombach et al., CVPR 2022, §3.1).

It differs from the paper's in two ways, both of which measured better on faces at this size:

* *Pooled channels.* Part of the latent is the image itself, average-pooled by f; the encoder learns only what pooling
  loses and the decoder only what upsampling lacks. The learned channels alone are regularised.
* *A decoder that sees the source.* Most of an edited face (skin, brows, outline) is in the source at full resolution, so the
  decoder reads the source's features, and a gate can copy its pixels (as in diffusers' ``AsymmetricAutoencoderKL`` for
  inpainting). Given a motion image, the source is warped by it first, and the motion image shows eyelids, teeth and tongue at
  full resolution. A shift predicted from the latent corrects the motion. For depth, a second gate can choose a candidate with
  the outlines of the fitted head (`omote.rgbd.warp.surfaced`). Without a source it is a plain autoencoder.

image x (5, s, s) → latent z (5 + learned, s/f, s/f) → image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from omote.nets.precision import keep_float32
from omote.nets.quantiser import Quantised, VectorQuantiser
from omote.rgbd import warp
from omote.rgbd.codec import DEPTH, MASK, NUM_CHANNELS, RGB

GROUPS = 8


class ResBlock(nn.Module):
    """GroupNorm → SiLU → convolution, twice, with a skip; the last convolution starts at zero, the block as the identity."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in, h, w) → (b, out, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.skip(x) + h
        return out


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """The encoder's diagonal Gaussian; pooled channels have no variance.

    Attributes:
        pooled: image, average-pooled by f.
        mean: mean of the learned channels.
        log_variance: log variance of the learned channels.
    """

    pooled: Float[Tensor, "b k h w"]
    mean: Float[Tensor, "b c h w"]
    log_variance: Float[Tensor, "b c h w"]

    def mode(self) -> Float[Tensor, "b d h w"]:
        """The mode of the distribution."""
        return torch.cat([self.pooled, self.mean], dim=1)

    def sample(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """A sample from standard normal noise, by the reparameterisation trick (Kingma & Welling 2014)."""
        return torch.cat([self.pooled, self.mean + torch.exp(0.5 * self.log_variance) * noise], dim=1)

    def penalty(self) -> Float[Tensor, ""]:
        """KL(q ‖ N(0, I)) in nats per latent value."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).mean()


@dataclass(frozen=True, kw_only=True)
class QuantisedLatent:
    """Output of a VQ-regularised encoder: a point instead of a distribution (`Posterior`).

    Attributes:
        pooled: image, average-pooled by f.
        quantised: learned channels, quantised to the codebook.
    """

    pooled: Float[Tensor, "b 5 h w"]
    quantised: Quantised

    def mode(self) -> Float[Tensor, "b d h w"]:
        """The latent."""
        return torch.cat([self.pooled, self.quantised.values], dim=1)

    def sample(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The latent, which is deterministic; ``noise`` is ignored."""
        return self.mode()

    def penalty(self) -> Float[Tensor, ""]:
        """The commitment loss."""
        return self.quantised.commitment


class LatentStage(ModelMixin, ConfigMixin):
    """Base class of first stages, with the units of latents and of their differences, measured after training (paper, D.1)."""

    latent_mean: Tensor
    latent_std: Tensor
    delta_std: Tensor

    def register_units(self, channels: int) -> None:
        """Register the units, initially those of standard normal latents."""
        self.register_buffer("latent_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1, 1))
        self.register_buffer("delta_std", torch.ones(channels, 1, 1))

    def scale(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Latent → zero mean, unit deviation per channel."""
        out: Tensor = (z - self.latent_mean) / self.latent_std
        return out


class RgbdAutoencoder(LatentStage):
    """RGB-D autoencoder with diffusers' ``save_pretrained`` and ``from_pretrained``.

    Args:
        sample_size: side s of the images in pixels.
        regularisation: regularisation of the learned channels: a KL penalty, or a codebook.
        num_codes: number of codes in the codebook.
        learned_channels: number of latent channels besides the five pooled ones.
        patch: side of the pixel patches that the encoder first unshuffles into channels, so that no wide layer runs at full
            resolution.
        channels: widths at s/patch, s/(2 patch), …; f = patch · 2^(len(channels) - 1).
        blocks: number of residual blocks per width.
        fine_channels: width of the decoder's last stage, at s/2.
        fine_blocks: number of residual blocks of that stage.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 128,
        regularisation: Literal["kl", "vq"] = "kl",
        num_codes: int = 1024,
        learned_channels: int = 4,
        patch: int = 4,
        channels: Sequence[int] = (48,),
        blocks: int = 2,
        fine_channels: int = 48,
        fine_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.factor = patch * 2 ** (len(channels) - 1)
        self.latent_channels = NUM_CHANNELS + learned_channels

        self.stem = nn.Conv2d(NUM_CHANNELS * patch**2, channels[0], 3, padding=1)
        self.encoder_blocks = nn.ModuleList(_blocks(width, blocks) for width in channels)
        self.downsamplers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(channels)
        )
        self.quantiser = VectorQuantiser(num_codes, learned_channels) if regularisation == "vq" else None
        # A Gaussian has a mean and a variance, a code is a point.
        out = learned_channels if regularisation == "vq" else 2 * learned_channels
        self.to_latent = nn.Sequential(
            nn.GroupNorm(GROUPS, channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], out, 3, padding=1)
        )

        # Decoder, coarse to fine; at each width it reads the source's encoder features.
        backwards = tuple(reversed(channels))
        self.from_latent = nn.Conv2d(self.latent_channels, backwards[0], 3, padding=1)
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in backwards)
        self.decoder_blocks = nn.ModuleList(_blocks(width, blocks) for width in backwards)

        # A further shift that aligns the warped source with the latent; starts at zero.
        self.to_shift = nn.Conv2d(backwards[-1], 2, 3, padding=1)
        nn.init.zeros_(self.to_shift.weight)
        assert self.to_shift.bias is not None
        nn.init.zeros_(self.to_shift.bias)

        # A 1×1 convolution before each upsampling, which reduces the width before the number of pixels grows.
        self.upsamplers = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise((*backwards, fine_channels)))
        seen = 2 * NUM_CHANNELS + warp.NUM_READ + 1
        self.fine_merge = nn.Conv2d(fine_channels + 4 * seen, fine_channels, 3, padding=1)
        self.fine_stage = _blocks(fine_channels, fine_blocks)

        # Per pixel: the residual over the upsampled pooled image, and three gate logits.
        self.to_pixels = nn.Conv2d(fine_channels, 4 * (NUM_CHANNELS + 3), 3, padding=1)
        assert self.to_pixels.bias is not None
        nn.init.zeros_(self.to_pixels.weight)
        nn.init.zeros_(self.to_pixels.bias)
        nn.init.constant_(self.to_pixels.bias[4 * NUM_CHANNELS :], -2.0)

        # 0 until training opens it: with a copy path from the start, the latent learns little, and mouths stay blurred.
        self.register_buffer("gate_open", torch.zeros(()))
        self.register_units(self.latent_channels)
        # Outputs that are used directly, and too precise for bfloat16: depth to .01 mm, latents and variances, gates, shifts.
        for head in (self.to_latent[-1], self.to_shift, self.to_pixels):
            keep_float32(head)

    def features(self, x: Float[Tensor, "b 5 s s"]) -> list[Tensor]:
        """Encoder features, fine to coarse."""
        h = self.stem(F.pixel_unshuffle(x, self.config.patch))
        out = []
        for i, blocks in enumerate(self.encoder_blocks):
            h = blocks(h if i == 0 else self.downsamplers[i - 1](h))
            out.append(h)
        return out

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> Posterior | QuantisedLatent:
        """Packed image → the latent's distribution, or the latent on the codebook."""
        pooled, learned = F.avg_pool2d(x, self.factor), self.to_latent(self.features(x)[-1])
        if self.quantiser is not None:
            return QuantisedLatent(pooled=pooled, quantised=self.quantiser(learned))
        mean, log_variance = learned.chunk(2, dim=1)
        return Posterior(pooled=pooled, mean=mean, log_variance=log_variance.clamp(-20.0, 4.0))

    def decode(
        self,
        z: Float[Tensor, "b d h w"],
        source: Float[Tensor, "b 5 s s"] | None = None,
        motion: Float[Tensor, "b 9 m m"] | None = None,
        source_features: list[Tensor] | None = None,
    ) -> Float[Tensor, "b 5 s s"]:
        """Latent → packed image; with a source, its features and gate are used.

        Args:
            z: unscaled latents.
            source: packed source images, or None to decode without a source.
            motion: motion images of the edit, or None for an unmoved source.
            source_features: `features` of the source without motion, if they are already computed.
        """
        moved = source if source is None or motion is None else warp.moved(source, motion)
        if moved is not None and source_features is None:
            source_features = self.features(moved)
        size = (z.shape[-2] * self.factor, z.shape[-1] * self.factor)
        base = F.interpolate(z[:, :NUM_CHANNELS], size=size, mode="bilinear", align_corners=False)

        h = self.from_latent(z)
        for i, (merge, blocks, upsampler) in enumerate(
            zip(self.merge, self.decoder_blocks, self.upsamplers, strict=True)
        ):
            seen = source_features[-1 - i] if source_features is not None else torch.zeros_like(h)
            h = blocks(h + merge(torch.cat([h, seen], dim=1)))
            finest = h
            # The last upsampling is by patch / 2, because the fine stage runs at half resolution.
            scale = 2 if i + 1 < len(self.upsamplers) else self.config.patch // 2
            h = F.interpolate(upsampler(h), scale_factor=float(scale), mode="nearest")

        if source is None:
            shown = torch.zeros_like(base[:, :1]).expand(-1, NUM_CHANNELS + warp.NUM_READ + 1, -1, -1)
        else:
            if motion is None:
                motion = torch.zeros_like(base[:, :1]).expand(-1, warp.NUM_CHANNELS, -1, -1)
            surface = warp.surfaced(source, motion)
            motion = warp.resized(motion[:, warp.READ], self.config.sample_size)
            motion = warp.shifted(motion, self.to_shift(finest))
            source = warp.moved(source, motion)
            shown = torch.cat([source, motion, surface], dim=1)

        h = torch.cat([h, F.pixel_unshuffle(torch.cat([base, shown], dim=1), 2)], dim=1)
        h = self.to_pixels(F.silu(self.fine_stage(self.fine_merge(h))))
        residual = F.pixel_shuffle(h[:, : 4 * NUM_CHANNELS], 2)
        image: Tensor = base + residual
        if source is None:
            return image

        # Three gates: for colour, for geometry (depth and mask), and for depth from the fitted head's surface.
        gates = self.gate_open * torch.sigmoid(F.pixel_shuffle(h[:, 4 * NUM_CHANNELS :], 2))
        gate = torch.cat([gates[:, :1].expand(-1, 3, -1, -1), gates[:, 1:2].expand(-1, 2, -1, -1)], dim=1)
        image = image + gate * (source - image)
        depth = torch.lerp(image[:, DEPTH], surface, gates[:, 2:])
        return torch.cat([image[:, RGB], depth, image[:, MASK]], dim=1)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(width, width) for _ in range(count)))
