"""Training of Stable Diffusion on views with captions: from nothing, and fine-tuning to depth, to several views, and to both.

The loss is that of the checkpoint's own prediction and schedule (Rombach et al., CVPR 2022, eq. 3). What is exported is a folder
that stock diffusers reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.diffusion.flow import noised
from omote.diffusion.objective import Objective, Times
from omote.engine.loop import BaseTask, EngineConfig
from omote.errors import ConfigError
from omote.geometry.rig import Rig, flattened
from omote.head.model import HeadModel
from omote.images.first_stage import factor_of, load_image_autoencoder
from omote.images.source import rows_of
from omote.images.stable_diffusion.checkpoint import SCHEDULE, load_stable_diffusion, save_stable_diffusion
from omote.images.stable_diffusion.depth import depth_range
from omote.images.stable_diffusion.extend import DepthInit, extended, new_parts
from omote.images.stable_diffusion.lora import LowRank, merge, save_lora
from omote.images.stable_diffusion.model import DrawSettings, StableDiffusion, Views
from omote.images.stable_diffusion.text import ClipTokenizer, encoded_text, text_encoder
from omote.multiview.data import ViewSource, joined, sets_of
from omote.multiview.words import Captions
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, MASK, RGB, shrunk

# Share of single views whose caption says where the camera is.
PLACED = 0.8
MEASURED, PREVIEWS = 32, 4
PREVIEW = DrawSettings(steps=10, sampler="flow_euler", guidance_scale=2.0)
HEAD_CHANNELS = 64


@dataclass(frozen=True, kw_only=True)
class StableDiffusionConfig:
    """Config of training Stable Diffusion.

    Attributes:
        population: folder of view shards, or config of a population with a rig.
        engine: length of the run, and its optimiser; an image is a view, or a set of views.
        checkpoint: folder or single file to fine-tune; None trains a new one.
        vae: exported VAE of a new one; None for an untrained one of Stable Diffusion's size.
        channels: widths of a new U-Net at its four resolutions.
        text_width, text_layers: width and number of blocks of a new text encoder, which is trained with the U-Net.
        from_nothing: whether to draw the U-Net's weights anew and keep the VAE and text encoder of the checkpoint.
        depth: whether to add depth as a second latent.
        depth_init: first weights of the second latent.
        multiview: whether to denoise the views of a set together.
        lora_rank: rank of changes to the attention layers; 0 trains the whole U-Net.
        sample_size: side of the images, pixels.
        times, at_noise: distribution of training times (`omote.diffusion.objective.Objective`); "linear" is the schedule's own.
        num_captions: number of captions to draw from.
        drop_text: share of images without a caption, for guidance.
        gradient_checkpointing: whether to recompute activations in the backward pass, to save memory.
        ict: folder of ICT-FaceKit, for populations that are rendered during training.
    """

    population: Path | PopulationConfig
    engine: EngineConfig
    checkpoint: Path | None = None
    vae: Path | None = None
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    text_width: Annotated[int, Range(HEAD_CHANNELS)] = 768
    text_layers: Annotated[int, Range(1)] = 12
    from_nothing: bool = False
    depth: bool = False
    depth_init: DepthInit = "zeros"
    multiview: bool = False
    lora_rank: Annotated[int, Range(0)] = 0
    sample_size: Annotated[int, Range(8)] = 256
    times: Times = "linear"
    at_noise: Annotated[float, Range(0, 1)] = 0.0
    num_captions: Annotated[int, Range(7)] = 1_400
    drop_text: Annotated[float, Range(0, 1)] = 0.1
    gradient_checkpointing: bool = False
    ict: Path | None = None

    def __post_init__(self) -> None:
        """Refuse low-rank training of a network that has no weights.

        Raises:
            ValueError: a rank without a checkpoint.
        """
        if self.lora_rank and self.from_nothing:
            raise ValueError("lora_rank: expected 0 with from_nothing, whose frozen weights would be random")

    def model(self) -> StableDiffusion:
        """The networks before they are extended."""
        if self.checkpoint is not None:
            model = load_stable_diffusion(self.checkpoint)
            if not self.from_nothing:
                return model
            torch.manual_seed(self.engine.seed)
            return replace(model, unet=UNet2DConditionModel.from_config(model.unet.config))

        torch.manual_seed(self.engine.seed)
        vae = _untrained_vae() if self.vae is None else load_image_autoencoder(self.vae)
        tokenizer = ClipTokenizer()
        unet = UNet2DConditionModel(
            sample_size=self.sample_size // factor_of(vae),
            in_channels=vae.config.latent_channels,
            out_channels=vae.config.latent_channels,
            block_out_channels=self.channels,
            cross_attention_dim=self.text_width,
            attention_head_dim=8,
        )

        text = {
            "vocab_size": len(tokenizer.words),
            "hidden_size": self.text_width,
            "intermediate_size": 4 * self.text_width,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": self.text_width // HEAD_CHANNELS,
            "projection_dim": self.text_width,
            "hidden_act": "quick_gelu",
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        }

        # A schedule that ends in pure noise, where samplers begin (Lin et al., WACV 2024).
        scheduler = {**SCHEDULE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
        return StableDiffusion(
            unet=unet, vae=vae.eval(), text_encoder=text_encoder(text), tokenizer=tokenizer, scheduler=scheduler
        )


def _untrained_vae() -> Any:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )


@dataclass(frozen=True, kw_only=True)
class CaptionedViews:
    """A training batch.

    Attributes:
        x: packed views; one for each person, or a set of views.
        ids: token ids of the captions.
        noise: standard normal noise of the latents' shape.
        t: times in [0, 1].
    """

    x: Float[Tensor, "b v 5 s s"]
    ids: Int[Tensor, "b n"]
    noise: Float[Tensor, "b v d h w"]
    t: Float[Tensor, "b"]


class StableDiffusionModule(nn.Module):
    """Stable Diffusion with its loss as forward.

    Args:
        model: networks, extended already.
        objective: loss.
        lora_rank: rank of changes to the attention layers; 0 trains the whole U-Net.
        train_text: whether the text encoder is trained too.
    """

    def __init__(self, model: StableDiffusion, objective: Objective, *, lora_rank: int, train_text: bool) -> None:
        super().__init__()
        self.objective = objective
        # In a tuple, so that frozen networks are no part of this module's state.
        self.model = (model,)
        self.frozen = [model.vae]
        self.unet = self.lora = self.parts = self.text = None
        if lora_rank:
            model.unet.requires_grad_(False)
            self.frozen.append(model.unet)
            self.lora = LowRank(model.unet, lora_rank)
            self.parts = nn.ModuleDict(new_parts(model.unet) if model.views is not None else {}).requires_grad_(True)
        else:
            self.unet = model.unet.requires_grad_(True)
        if train_text:
            self.text = model.text_encoder.requires_grad_(True)
        else:
            self.frozen.append(model.text_encoder)
            model.text_encoder.requires_grad_(False)
        for network in (model.unet, model.text_encoder):
            network.train()
        model.vae.requires_grad_(False)
        views = model.views
        cameras = (
            flattened(views.rig.cameras(64)) if views is not None and views.multiview else np.zeros((0, 16), np.float32)
        )
        self.register_buffer("cameras", torch.from_numpy(cameras), persistent=False)

    cameras: Tensor

    @torch.no_grad()
    def latents(self, x: Float[Tensor, "n 5 s s"]) -> Float[Tensor, "n d h w"]:
        """Scaled latents of packed views."""
        (model,) = self.model
        if model.views is None or not model.views.depth:
            return model.latents(x[:, RGB])
        depth = x[:, DEPTH]
        return model.joint_latents(x[:, RGB], depth, depth_range(depth, x[:, MASK] > 0))

    def forward(self, batch: CaptionedViews) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the prediction, weighted as the objective says; colour and depth apart as metrics."""
        device = next(self.parameters()).device
        (model,) = self.model
        for network in self.frozen:
            network.to(device)
        views = batch.x.shape[1]
        z_0 = self.latents(batch.x.to(device).flatten(0, 1)).float()
        noise, t = batch.noise.to(device).flatten(0, 1), batch.t.to(device).repeat_interleave(views)
        context = encoded_text(model.text_encoder, batch.ids.to(device)).repeat_interleave(views, dim=0)
        cameras = self.cameras.repeat(len(batch.x), 1) if len(self.cameras) else None
        velocity = model.velocity(noised(z_0, noise, t), t, context, cameras)
        squared = self.objective.weight(t).view(-1, 1, 1, 1) * (velocity - (noise - z_0)) ** 2
        terms: dict[str, Tensor] = {self.objective.prediction: squared[:, : model.latent_channels].mean().detach()}
        if squared.shape[1] > model.latent_channels:
            terms["depth"] = squared[:, model.latent_channels :].mean().detach()
        return squared.mean(), terms


class StableDiffusionTask(BaseTask):
    """Training of Stable Diffusion as an `omote.engine.loop.Task`."""

    module: StableDiffusionModule

    def __init__(self, config: StableDiffusionConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = ViewSource(config.population, heads)
        self.captions = Captions(config.num_captions, config.engine.seed, "en")
        model = config.model()
        rig = self.source.rig
        if model.views is not None:
            raise ConfigError(
                f"{config.checkpoint}: expected a checkpoint of single colour images, got one fine-tuned before"
            )

        if config.depth or config.multiview:
            views = Views(depth=config.depth, multiview=config.multiview, rig=rig)
            if config.depth:
                views = replace(views, depth_range_mm=self._mean_range())
            unet = extended(
                model.unet,
                depth=config.depth,
                init=config.depth_init,
                num_views=rig.num_views if config.multiview else 0,
            )
            model = replace(model, unet=unet, views=views)

        if config.gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
        self.side = config.sample_size // factor_of(model.vae)
        # Sampling starts from this size.
        model.unet.register_to_config(sample_size=self.side)

        self.module = StableDiffusionModule(
            model,
            model.objective(config.times, config.at_noise),
            lora_rank=config.lora_rank,
            train_text=config.checkpoint is None,
        )

    def _mean_range(self) -> tuple[float, float]:
        x = self._drawn(0, 7, MEASURED, 0, 1)[0].flatten(0, 1)
        low, high = (depth_range(x[:, DEPTH], x[:, MASK] > 0) * DEPTH_SCALE_MM).mean(dim=0).tolist()
        return low, high

    def _drawn(self, step: int, seed: int, size: int, part: int, parts: int) -> tuple[Tensor, list[str]]:
        """Packed views with their captions."""
        sets, captions = [], []
        rig = self.source.rig
        for shard, row, rng in self.source.drawn(step, seed, size, part, parts):
            found = sets_of(shard, [(row, int(rng.integers(shard.num_images)))])
            text = self.captions.texts[self.captions.like(int(found.category[0]), float(found.intensity[0]), rng)]
            if not self.config.multiview:
                view = int(rng.integers(rig.num_views))
                found = replace(found, x=found.x[:, view : view + 1])
                if rng.random() < PLACED:
                    text = f"{text}, {place_of(rig, view)}"
            sets.append(found)
            captions.append("" if rng.random() < self.config.drop_text else text)
        x = joined(sets).x
        return shrunk(x.flatten(0, 1), self.config.sample_size).unflatten(0, x.shape[:2]), captions

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> CaptionedViews:
        """Views with their captions, noise and times."""
        x, captions = self._drawn(step, seed, size, part, parts)
        (model,) = self.module.model
        generator, mine = torch.Generator().manual_seed(seed * 1_000_003 + step), slice(part * size, (part + 1) * size)
        t = self.module.objective.draw(size * parts, generator)[mine]
        shape = (size * parts, x.shape[1], model.unet.config.in_channels, self.side, self.side)
        noise = torch.randn(shape, generator=generator)[mine]
        return CaptionedViews(x=x, ids=model.tokenizer(captions), noise=noise, t=t)

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write a folder of diffusers, and the low-rank changes beside it where there are any."""
        (model,) = self.module.model
        saved = replace(model, unet=self._averaged_unet(weights), vae=model.vae.cpu())
        if self.module.text is not None:
            average = text_encoder(model.text_encoder.config.to_diff_dict())
            average.load_state_dict(_under("text.", weights))
            saved = replace(saved, text_encoder=average.eval())
        save_stable_diffusion(saved, folder)
        if self.module.lora is not None:
            save_lora(_under("lora.", weights), folder)

    def _averaged_unet(self, weights: Mapping[str, Tensor]) -> Any:
        (model,) = self.module.model
        average = type(model.unet).from_config(model.unet.config)
        if self.module.lora is None:
            average.load_state_dict(_under("unet.", weights))
            return average.eval()
        average.load_state_dict({k: v.cpu() for k, v in model.unet.state_dict().items()} | _under("parts.", weights))
        merge(average, _under("lora.", weights))
        return average.eval()

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Images of four captions; below them their depth, where the U-Net has depth."""
        (model,) = self.module.model
        device = self.device
        for network in (model.vae, model.text_encoder):
            network.to(device)
        if device.type != "cpu":
            return torch.zeros(3, 8, 8)
        texts = [f"a {how} face" for how in ("neutral", "happy", "surprised", "angry")][:PREVIEWS]
        rgb, depth = model.shown(model.draw(texts, range(PREVIEWS), PREVIEW))
        rows = [rgb * 2 - 1]
        if depth is not None:
            rows.append((depth / DEPTH_SCALE_MM).expand(-1, 3, -1, -1))
        return rows_of(rows)


def place_of(rig: Rig, view: int) -> str:
    """Words for where a view's camera is."""
    yaw, pitch = rig.yaw_deg[view], rig.pitch_deg[view]
    if abs(yaw) < 10 and abs(pitch) < 10:
        return "front view"
    if abs(yaw) >= abs(pitch):
        return "view from the left" if yaw > 0 else "view from the right"
    return "view from above" if pitch > 0 else "view from below"


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.detach().cpu() for k, v in weights.items() if k.startswith(prefix)}
