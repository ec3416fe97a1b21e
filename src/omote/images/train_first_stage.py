"""Training of a first stage of ordinary images (Rombach et al., CVPR 2022, §3.1 and appendix G)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from diffusers import VQModel
from torch import Tensor

from omote.config import Range
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import built
from omote.images.first_stage import ImageAutoencoder, Regularisation, encoded, factor_of, image_autoencoder
from omote.images.source import Images, ImageSource, rows_of
from omote.nets.adversarial import AdversarialModule, LossTerms
from omote.nets.discriminator import PatchDiscriminator
from omote.nets.quantiser import codebook_use

PREVIEWS = 8
MEASURED_BATCHES, MEASURED_SIZE = 8, 16


@dataclass(frozen=True, kw_only=True)
class ImageAutoencoderConfig(LossTerms):
    """Config of training a first stage of images.

    Attributes:
        images: folder of packed images (`omote data pack`).
        engine: length of the run, and its optimiser.
        sample_size: side of the images in pixels.
        regularisation, latent_channels, num_codes, channels, layers_per_block, attention: arguments of `image_autoencoder`.
        kl_weight: weight of the KL divergence; it and the reconstruction loss are summed over an image (paper: 1e-6).
        commitment_weight: weight of the codebook's loss (van den Oord et al., NeurIPS 2017, eq. 3), which includes β = 0.25.
        judge_width: width of the discriminator's first layer.
        random_crop, flip: arguments of `ImageSource`.
    """

    images: Path
    engine: EngineConfig
    sample_size: Annotated[int, Range(8)] = 256
    regularisation: Regularisation = "kl"
    latent_channels: Annotated[int, Range(1)] = 4
    num_codes: Annotated[int, Range(2)] = 8192
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: Annotated[int, Range(1)] = 2
    attention: bool = True
    kl_weight: float = 1e-6
    commitment_weight: float = 1.0
    adversarial: float = 0.5
    adversarial_start: int = 50_000
    judge_width: Annotated[int, Range(8)] = 64
    random_crop: bool = True
    flip: bool = True

    def __post_init__(self) -> None:
        """Refuse a first stage that cannot be built.

        Raises:
            ValueError: a perceptual term without its network, or a side that cannot be halved often enough.
        """
        super().__post_init__()
        if self.sample_size % 2 ** (len(self.channels) - 1):
            raise ValueError(f"sample_size {self.sample_size} does not halve {len(self.channels) - 1} times")

    def network(self) -> ImageAutoencoder:
        """The first stage, untrained."""
        return built(image_autoencoder, self)

    def source(self) -> Images:
        """The training images."""
        return ImageSource(self.images, size=self.sample_size, random_crop=self.random_crop, flip=self.flip)


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Images to reconstruct.

    Attributes:
        image: images in [-1, 1].
        noise: noise of the sample from the posterior.
    """

    image: Tensor
    noise: Tensor


class ImageAutoencoderModule(AdversarialModule):
    """The first stage with its loss as forward."""

    def __init__(self, autoencoder: ImageAutoencoder, config: ImageAutoencoderConfig) -> None:
        judge = PatchDiscriminator(0, config.judge_width, image_channels=3) if config.adversarial > 0 else None
        super().__init__(autoencoder, judge, config)
        self.config = config

    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer."""
        weight: Tensor = self.autoencoder.decoder.conv_out.weight
        return weight

    def forward(self, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        device = next(self.parameters()).device
        truth = batch.image.to(device)
        image, penalty, terms = self._reconstructed(truth, batch.noise.to(device))
        loss = F.l1_loss(image, truth)
        terms["l1"] = loss.detach()
        nothing, even = truth[:, :0], torch.ones_like(truth[:, :1])
        loss, judged = self.judged(loss, image, truth, nothing, even)
        return loss + penalty, {**terms, **judged}

    def _reconstructed(self, truth: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if isinstance(self.autoencoder, VQModel):
            latents = self.autoencoder.encode(truth).latents
            # In float32 even under autocast: rounding would swamp differences between the distances to similar codes.
            with torch.autocast(truth.device.type, enabled=False):
                quantised, loss, (_, _, indices) = self.autoencoder.quantize(latents.float())
            image = self.autoencoder.decode(quantised, force_not_quantize=True).sample.float()
            use = codebook_use(indices, self.config.num_codes)
            usage = {"codes_used": torch.tensor(use.share_used), "code_perplexity": torch.tensor(use.perplexity)}
            return image, self.config.commitment_weight * loss, {"commitment": loss.detach(), **usage}
        posterior = self.autoencoder.encode(truth).latent_dist
        image = self.autoencoder.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = posterior.kl().mean()
        return image, self.config.kl_weight * kl / truth[0].numel(), {"kl": kl.detach()}


class ImageAutoencoderTask(BaseTask):
    """The first stage of images as an `omote.engine.loop.Task`."""

    module: ImageAutoencoderModule

    def __init__(self, config: ImageAutoencoderConfig) -> None:
        self.config = config
        self.source = config.source()
        torch.manual_seed(config.engine.seed)
        self.module = ImageAutoencoderModule(config.network(), config)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> ImageBatch:
        """Images with the noise of their posterior samples."""
        image, _ = self.source.draw(step, seed, size, part, parts)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        side = self.config.sample_size // factor_of(self.module.autoencoder)
        noise = torch.randn((size * parts, self.config.latent_channels, side, side), generator=generator)
        return ImageBatch(image=image, noise=noise[part * size : (part + 1) * size])

    def schedule(self, images: int) -> None:
        """Turn the adversarial loss on."""
        self.module.paying = images >= self.config.adversarial_start

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write the averaged weights, with the scale to unit deviation, as a model of diffusers."""
        autoencoder = self.averaged("autoencoder", weights)
        autoencoder.register_to_config(scaling_factor=1 / self._deviation(autoencoder.eval()))
        autoencoder.save_pretrained(folder / "autoencoder")

    @torch.no_grad()
    def _deviation(self, autoencoder: Any) -> float:
        """Standard deviation of the latents over a sample of images (paper, D.1)."""
        device = self.device
        autoencoder = autoencoder.to(device)
        size = min(MEASURED_SIZE, self.config.engine.batch_size)
        found = [
            encoded(autoencoder, self.source.draw(step, 7, size, 0, 1)[0].to(device))
            for step in range(MEASURED_BATCHES)
        ]
        autoencoder.to("cpu")
        return max(float(torch.cat(found).std()), 1e-3)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """A row of images above a row of their reconstructions."""
        image = self.source.first(PREVIEWS)
        autoencoder = self.module.autoencoder
        device = next(autoencoder.parameters()).device
        return rows_of([image, autoencoder(image.to(device)).sample])
