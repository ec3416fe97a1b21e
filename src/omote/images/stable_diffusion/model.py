"""Stable Diffusion: text → image, image → image, and what fine-tuning adds to both, with the project's samplers and guidance.

The U-Net's input is a point of a variance-preserving path at a step of 1,000. It is the straight path's point of the same ratio
of noise to signal, divided by that path's scale (`omote.diffusion.objective`), so `StableDiffusion.velocity` is all that the
samplers need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from jaxtyping import Float
from torch import Tensor

from omote.config import Range, check_ranges
from omote.diffusion.flow import Velocity, guided, initial_noise, noised, path_scale
from omote.diffusion.objective import Objective, Prediction, Times, velocity_of
from omote.diffusion.sampling import LARGEST_NOISE_RATIO, sampled
from omote.diffusion.settings import SamplerName
from omote.errors import CheckpointError, ConfigError
from omote.geometry.rig import Rig, flattened
from omote.images.first_stage import decoded, encoded, factor_of
from omote.images.stable_diffusion.depth import depth_image, depth_of
from omote.images.stable_diffusion.text import ClipTokenizer, encoded_text

# A schedule that ends later than this was cut from one that ends in pure noise.
ENDS_IN_NOISE = 0.98


@dataclass(frozen=True, kw_only=True)
class Views:
    """What a fine-tuned U-Net shows beside one image.

    Attributes:
        depth: whether a second latent holds depth.
        multiview: whether the views of a rig are denoised together.
        rig: cameras of the views.
        depth_range_mm: mean of the depth ranges seen in training, relative to the reference depth, mm.
    """

    depth: bool = False
    multiview: bool = False
    rig: Rig = field(default_factory=Rig)
    depth_range_mm: tuple[float, float] = (-100.0, 100.0)

    @property
    def num_views(self) -> int:
        """Number of images that are denoised together."""
        return self.rig.num_views if self.multiview else 1

    def values(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "rig": vars(self.rig)}

    @classmethod
    def of(cls, values: Mapping[str, Any], origin: Path) -> Views:
        """Back from JSON.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            rig: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["rig"].items()}
            low, high = (float(x) for x in values["depth_range_mm"])
            return cls(
                depth=bool(values["depth"]),
                multiview=bool(values["multiview"]),
                rig=Rig(**rig),
                depth_range_mm=(low, high),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{origin}: expected the views of a fine-tuned model ({error})") from None


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """Settings of drawing.

    Attributes:
        size: side of the images, pixels; 0 for the size that the U-Net was trained at.
        steps: number of sampler steps.
        sampler: name of the sampler.
        guidance_scale: scale of classifier-free guidance by the text; 1 means none.
        negative: text that guidance leads away from.
        strength: noise on a source image, as a time in (0, 1]; 1 keeps nothing of it.
        shift: shift of the times of the rectified-flow samplers.
    """

    size: Annotated[int, Range(0)] = 0
    steps: Annotated[int, Range(1, 1000)] = 25
    sampler: SamplerName = "ddim"
    guidance_scale: Annotated[float, Range(0, 50)] = 7.5
    negative: str = ""
    strength: Annotated[float, Range(0.001, 1)] = 1.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class StableDiffusion:
    """The parts of a checkpoint.

    Attributes:
        unet: ``UNet2DConditionModel``.
        vae: ``AutoencoderKL``.
        text_encoder: ``CLIPTextModel``.
        tokenizer: CLIP's tokenizer.
        scheduler: config of the noise schedule, as diffusers writes it.
        views: what the U-Net shows beside one image; None for a stock checkpoint.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: ClipTokenizer
    scheduler: Mapping[str, Any]
    views: Views | None = None

    @property
    def prediction(self) -> Prediction:
        """Quantity that the U-Net predicts."""
        return "v" if self.scheduler.get("prediction_type") == "v_prediction" else "epsilon"

    @cached_property
    def betas(self) -> tuple[float, ...]:
        """The schedule's β; a schedule that ends in pure noise is cut at `LARGEST_NOISE_RATIO`."""
        signal = torch.cumprod(1 - DDPMScheduler.from_config(dict(self.scheduler)).betas.double(), dim=0)
        signal = torch.cat([torch.ones(1), signal.clamp_min(1 / (1 + LARGEST_NOISE_RATIO**2))])
        return tuple((1 - signal[1:] / signal[:-1]).tolist())

    @cached_property
    def times(self) -> Float[Tensor, "t"]:
        """Time on the straight path of each of the schedule's steps."""
        signal = torch.cumprod(1 - torch.tensor(self.betas, dtype=torch.float64), dim=0)
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        return sigma / (alpha + sigma)

    def objective(self, times: Times = "linear", at_noise: float = 0.0) -> Objective:
        """The loss of the checkpoint's own prediction.

        Args:
            times: distribution of the training times; "linear" is the schedule's own.
            at_noise: share of items at the last time.
        """
        return Objective(
            prediction=self.prediction,
            times=times,
            at_noise=at_noise,
            zero_terminal_snr=self.prediction == "v" and bool(self.times[-1] > ENDS_IN_NOISE),
        )

    @property
    def latent_channels(self) -> int:
        """Channels of one latent: those of the VAE."""
        return int(self.vae.config.latent_channels)

    def latents(
        self, image: Float[Tensor, "b 3 s s"], noise: Float[Tensor, "b d h w"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        """Scaled latents of images in [-1, 1]: the posterior's mode, or a sample of it given ``noise``."""
        return encoded(self.vae, image, noise)

    def image(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 s s"]:
        """Images in about [-1, 1] from scaled latents."""
        return decoded(self.vae, z)

    def states(self, texts: Sequence[str]) -> Float[Tensor, "b n c"]:
        """States of texts, for cross-attention."""
        device = next(self.text_encoder.parameters()).device
        return encoded_text(self.text_encoder, self.tokenizer(texts).to(device))

    def steps_of(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The schedule's step at a time; between two steps, their mixture."""
        steps = np.interp(t.double().cpu().numpy(), self.times.numpy(), np.arange(len(self.times)))
        return torch.from_numpy(steps).to(t)

    def velocity(
        self,
        z_t: Float[Tensor, "b d h w"],
        t: Float[Tensor, "b"],
        context: Float[Tensor, "b n c"],
        cameras: Float[Tensor, "b 16"] | None = None,
        more: Float[Tensor, "b k h w"] | None = None,
    ) -> Float[Tensor, "b d h w"]:
        """The straight path's velocity; times beyond the schedule's last step are read as that step.

        Args:
            z_t: points of the straight path.
            t: times in [0, 1].
            context: states of the texts.
            cameras: flattened cameras, for a U-Net of views.
            more: further input channels.
        """
        labels = {} if cameras is None else {"class_labels": cameras}
        x = z_t / path_scale(t).view(-1, 1, 1, 1)
        x = x if more is None else torch.cat([x, more], dim=1)
        out = self.unet(x, self.steps_of(t), encoder_hidden_states=context, **labels, return_dict=False)[0].float()
        if self.prediction == "epsilon":
            return (out - z_t) / (1 - t).clamp(min=1 - float(self.times[-1])).view(-1, 1, 1, 1)
        # Stable Diffusion's v has the sign of the noise, that of `velocity_of` has the image's.
        return velocity_of("v", -out, z_t, t)

    def guided_velocity(self, texts: Sequence[str], settings: DrawSettings) -> Velocity:
        """The velocity for texts, with guidance; each text is of as many images as are denoised together."""
        views = 1 if self.views is None else self.views.num_views
        cameras = None
        if self.views is not None and self.views.multiview:
            cameras = torch.from_numpy(flattened(self.views.rig.cameras(64))).repeat(len(texts), 1)

        def by(context: Tensor) -> Velocity:
            return lambda z, t: self.velocity(z, t, context, cameras)

        wanted = self.states(texts).repeat_interleave(views, dim=0)
        free = self.states([settings.negative]).expand(len(wanted), -1, -1)
        return guided(by(wanted), by(free), settings.guidance_scale)

    @torch.no_grad()
    def draw(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        settings: DrawSettings = DrawSettings(),
        *,
        source: Float[Tensor, "b d h w"] | None = None,
    ) -> Float[Tensor, "b d h w"]:
        """Scaled latents of texts, ``num_views`` in a row for each.

        Args:
            texts: texts.
            seeds: seed of each text's noise; the size of a batch never changes a sample.
            settings: settings of drawing.
            source: scaled latents to begin from, noised up to the settings' strength (SDEdit).

        Raises:
            ConfigError: a strength below 1 without a source, or a size that the networks cannot halve.
        """
        if settings.strength < 1 and source is None:
            raise ConfigError("strength: expected 1 without a source image")
        views = 1 if self.views is None else self.views.num_views
        shape = (
            (self.unet.config.in_channels, *[self.latent_size(settings.size)] * 2)
            if source is None
            else source.shape[1:]
        )
        noise = torch.cat([initial_noise((views, *shape), [seed]).flatten(0, 1) for seed in seeds])
        velocity = self.guided_velocity(texts, settings)
        z = noise
        for step in sampled(
            velocity,
            noise,
            settings.steps,
            settings.sampler,
            seeds=[seed * views + i for seed in seeds for i in range(views)],
            shift=settings.shift,
            betas=self.betas,
            source=source,
            start=settings.strength,
        ):
            z = step.z
        return z

    def latent_size(self, size: int) -> int:
        """Side of the latents of images.

        Raises:
            ConfigError: the networks cannot halve the size often enough.
        """
        factor = factor_of(self.vae)
        if not size:
            return int(self.unet.config.sample_size)
        halved = 2 ** (len(self.unet.config.block_out_channels) - 1)
        if size % (factor * halved):
            raise ConfigError(f"size: expected a multiple of {factor * halved}, got {size}")
        return size // factor

    @torch.no_grad()
    def shown(
        self, z: Float[Tensor, "b d h w"], between: Float[Tensor, "b 2"] | None = None
    ) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b 1 s s"] | None]:
        """Images in [0, 1], and depth in mm of a U-Net of depth.

        Args:
            z: scaled latents.
            between: range of each depth image, mm; the mean range of training if None.
        """
        rgb = ((self.image(z[:, : self.latent_channels]) + 1) / 2).clamp(0, 1)
        if self.views is None or not self.views.depth:
            return rgb, None
        if between is None:
            between = torch.tensor(self.views.depth_range_mm).expand(len(z), 2)
        return rgb, depth_of(self.image(z[:, self.latent_channels :]), between)

    def joint_latents(
        self, rgb: Float[Tensor, "b 3 s s"], depth: Float[Tensor, "b 1 s s"], between: Float[Tensor, "b 2"]
    ) -> Float[Tensor, "b d h w"]:
        """Latents of colour and depth, for a U-Net of depth: both through the same VAE.

        Args:
            rgb: colours in [-1, 1].
            depth: depth, in the unit of the range.
            between: range of each depth image.
        """
        return torch.cat([self.latents(rgb), self.latents(depth_image(depth, between))], dim=1)

    @torch.no_grad()
    def depth_latents(
        self, rgb: Float[Tensor, "b d h w"], texts: Sequence[str], seeds: Sequence[int], settings: DrawSettings
    ) -> Float[Tensor, "b d h w"]:
        """Latents of the depth of given images, by a U-Net that knows colour and depth jointly.

        The colour's half of the latents is held on its own straight path from noise to the given latents (imputation, Song et
        al., ICLR 2021, appendix I.2).

        Args:
            rgb: scaled latents of the images.
            texts: a text for each image.
            seeds: seed of each image's noise.
            settings: settings of drawing, with a deterministic sampler.
        """
        noise = initial_noise((2 * rgb.shape[1], *rgb.shape[2:]), list(seeds))
        own, count = self.guided_velocity(texts, settings), rgb.shape[1]

        def velocity(z: Tensor, t: Tensor) -> Tensor:
            known = noised(rgb, noise[:, :count], t)
            found = own(torch.cat([known, z[:, count:]], dim=1), t)
            return torch.cat([(z[:, :count] - rgb) / t.view(-1, 1, 1, 1), found[:, count:]], dim=1)

        z = noise
        for step in sampled(velocity, noise, settings.steps, settings.sampler, seeds=seeds, betas=self.betas):
            z = step.z
        return z[:, count:]
