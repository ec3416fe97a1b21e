"""Training of a denoiser of image latents: unconditional, by class or by text (Rombach et al., CVPR 2022, appendix E)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from omote.config import Range
from omote.diffusion.flow import noised
from omote.diffusion.objective import Objective
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import built
from omote.errors import ConfigError
from omote.images.first_stage import ImageAutoencoder, decoded, encoded, factor_of, load_image_autoencoder
from omote.images.generator import Conditioning, ImageGenerator, Tokenizer
from omote.images.source import ImageSource, rows_of

# ε prediction, with timesteps of the scaled-linear schedule drawn uniformly: the paper's L_LDM (eq. 2).
PAPER_OBJECTIVE = Objective(prediction="epsilon", times="linear", at_noise=0.0, zero_terminal_snr=False)
PREVIEWS, PREVIEW_STEPS = 8, 20
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class ImageGeneratorConfig:
    """Config of training a denoiser of image latents.

    Attributes:
        images: folder of packed images (`omote data pack`), with classes or captions for conditional networks.
        autoencoder: folder of the exported first stage.
        engine: length of the run, and its optimiser.
        sample_size: side of the images in pixels.
        latent_size, latent_channels: shape of the first stage's latent.
        condition: kind of the condition.
        num_classes: expected number of classes; 0 accepts any.
        channels, attended, layers_per_block, head_channels, num_heads, context_width, transformer_depth, text_layers,
            max_tokens, residual_resampling: arguments of `ImageGenerator`.
        tokenizer: ``tokenizer.json`` file, or None for the text's bytes.
        drop_condition: share of images whose condition is dropped, for guidance.
        objective: prediction, weighting and training times.
        random_crop, flip: arguments of `ImageSource`.
    """

    images: Path
    autoencoder: Path
    engine: EngineConfig
    sample_size: Annotated[int, Range(8)] = 256
    latent_size: Annotated[int, Range(1)] = 64
    latent_channels: Annotated[int, Range(1)] = 3
    condition: Conditioning = "none"
    num_classes: Annotated[int, Range(0)] = 0
    channels: tuple[int, ...] = (224, 448, 672, 896)
    attended: tuple[bool, ...] = (False, True, True, True)
    layers_per_block: Annotated[int, Range(1)] = 2
    head_channels: int | None = 32
    num_heads: Annotated[int, Range(1)] = 1
    context_width: Annotated[int, Range(1)] = 512
    transformer_depth: Annotated[int, Range(1)] = 1
    text_layers: Annotated[int, Range(0)] = 32
    max_tokens: Annotated[int, Range(1)] = 77
    residual_resampling: bool = False
    tokenizer: Path | None = None
    drop_condition: Annotated[float, Range(0, 1)] = 0.1
    objective: Objective = PAPER_OBJECTIVE
    random_crop: bool = False
    flip: bool = True

    def __post_init__(self) -> None:
        """Refuse a denoiser that cannot be built.

        Raises:
            ValueError: ``channels`` and ``attended`` have different lengths.
        """
        if len(self.channels) != len(self.attended):
            raise ValueError(
                f"attended: expected one for each of {len(self.channels)} channels, got {len(self.attended)}"
            )

    def network(self, classes: tuple[str, ...], vocabulary: int) -> ImageGenerator:
        """The denoiser, untrained."""
        return built(
            ImageGenerator,
            self,
            sample_size=self.latent_size,
            classes=classes if self.condition == "class" else (),
            vocabulary=vocabulary,
            prediction=self.objective.prediction,
        )


@dataclass(frozen=True, kw_only=True)
class ImageLatentBatch:
    """A training batch of images with noise, times and conditions.

    Attributes:
        image: images in [-1, 1]; the module encodes them on its own device.
        posterior_noise: noise of the sample from the latent's posterior.
        noise: standard normal noise z_1.
        t: times in [0, 1].
        label: index into the classes, or `ImageGenerator.null_class`.
        tokens: token ids of the caption; zeros for the null text.
    """

    image: Tensor
    posterior_noise: Tensor
    noise: Tensor
    t: Tensor
    label: Tensor
    tokens: Tensor


class ImageGeneratorModule(nn.Module):
    """The denoiser with its loss as forward."""

    def __init__(self, generator: ImageGenerator, autoencoder: ImageAutoencoder, objective: Objective) -> None:
        super().__init__()
        self.generator = generator
        self.objective = objective
        # In a tuple, so that the frozen first stage is not part of this module's state.
        self.frozen: tuple[ImageAutoencoder] = (autoencoder,)

    def forward(self, batch: ImageLatentBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the prediction, weighted as the objective says."""
        device = next(self.parameters()).device
        with torch.no_grad():
            autoencoder = self.frozen[0].to(device)
            z_0 = encoded(autoencoder, batch.image.to(device), batch.posterior_noise.to(device)).float()
        noise, t = batch.noise.to(device), batch.t.to(device)
        velocity = self.generator(noised(z_0, noise, t), t, batch.label.to(device), batch.tokens.to(device))
        loss = (self.objective.weight(t).view(-1, 1, 1, 1) * (velocity - (noise - z_0)) ** 2).mean()
        return loss, {self.objective.prediction: loss.detach()}


class ImageGeneratorTask(BaseTask):
    """The denoiser as an `omote.engine.loop.Task`.

    Raises:
        ConfigError: the first stage's latents have another shape, or the images lack the condition.
    """

    module: ImageGeneratorModule

    def __init__(self, config: ImageGeneratorConfig) -> None:
        self.config = config
        self.source = ImageSource(
            config.images, size=config.sample_size, random_crop=config.random_crop, flip=config.flip
        )
        autoencoder = load_image_autoencoder(config.autoencoder)
        found = (autoencoder.config.latent_channels, config.sample_size // factor_of(autoencoder))
        if found != (config.latent_channels, config.latent_size):
            raise ConfigError(
                f"latent_channels, latent_size: the first stage in {config.autoencoder} has {found[0]}, {found[1]}, "
                f"got {config.latent_channels}, {config.latent_size}"
            )
        images = self.source.images
        if config.condition == "class" and (not images.classes or config.num_classes not in (0, len(images.classes))):
            raise ConfigError(
                f"{config.images}: expected {config.num_classes or 'some'} classes, one a subfolder, got "
                f"{len(images.classes)}; set num_classes, or condition=none"
            )
        if config.condition == "text" and not any(images.captions):
            raise ConfigError(f"{config.images}: has no captions; give name.txt beside the images or metadata.jsonl")
        self.tokenizer = Tokenizer(config.tokenizer)
        torch.manual_seed(config.engine.seed)
        generator = config.network(images.classes, self.tokenizer.vocabulary)
        self.module = ImageGeneratorModule(generator, autoencoder.eval().requires_grad_(False), config.objective)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> ImageLatentBatch:
        """Images with their conditions, noise and times."""
        image, chosen = self.source.draw(step, seed, size, part, parts)
        generator, mine = torch.Generator().manual_seed(seed * 1_000_003 + step), slice(part * size, (part + 1) * size)
        total, images = size * parts, self.source.images
        t = self.config.objective.draw(total, generator)[mine]
        dropped = (torch.rand(total, generator=generator) < self.config.drop_condition)[mine]
        shape = (2, total, self.config.latent_channels, self.config.latent_size, self.config.latent_size)
        noise, posterior_noise = torch.randn(shape, generator=generator)[:, mine]
        label = torch.from_numpy(images.labels[chosen])
        texts = ["" if gone else images.captions[i] for i, gone in zip(chosen, dropped.tolist(), strict=True)]
        return ImageLatentBatch(
            image=image,
            posterior_noise=posterior_noise,
            noise=noise,
            t=t,
            label=torch.where(dropped, self.module.generator.null_class, label),
            tokens=self._tokens(texts),
        )

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write the averaged weights in diffusers' format, with the first stage and the tokenizer beside them."""
        self.averaged("generator", weights).save_pretrained(folder / "generator")
        if self.tokenizer.file is not None:
            shutil.copyfile(self.tokenizer.file, folder / "generator" / TOKENIZER)
        if not (folder / "autoencoder" / "config.json").exists():
            shutil.copytree(self.config.autoencoder, folder / "autoencoder", dirs_exist_ok=True)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """A row of images above a row of samples of their classes or captions."""
        images = self.source.images
        count = min(PREVIEWS, len(images))
        which = torch.linspace(0, len(images) - 1, count).long()
        generator = self.module.generator
        device = next(generator.parameters()).device
        label = torch.from_numpy(images.labels)[which].to(device)
        tokens = self._tokens([images.captions[int(i)] for i in which]).to(device)
        z = generator.draw(label, tokens, range(count), steps=PREVIEW_STEPS)
        return rows_of([self.source.first(count), decoded(self.module.frozen[0].to(device), z)])

    def _tokens(self, texts: list[str]) -> Tensor:
        if self.config.condition != "text":
            return torch.zeros((len(texts), 1), dtype=torch.long)
        return self.tokenizer(texts, self.config.max_tokens)
