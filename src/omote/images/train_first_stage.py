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
from omote.images.first_stage import ImageAutoencoder, Regularisation, encoded, factor_of, image_autoencoder
from omote.images.source import ImageSource, rows_of
from omote.nets.adversarial import AdversarialModule
from omote.nets.discriminator import PatchDiscriminator
from omote.nets.perceptual import HedVgg16, load_hed_vgg16
from omote.nets.quantiser import codebook_use

PREVIEWS = 8
MEASURED_BATCHES, MEASURED_SIZE = 8, 16


@dataclass(frozen=True, kw_only=True)
class ImageAutoencoderConfig:
    """A run of a first stage of images.

    Attributes:
        images: folder of packed images (`omote data pack`).
        engine: length and optimiser.
        sample_size: pixels of a side.
        regularisation, latent_channels, num_codes, channels, layers_per_block, attention: of `image_autoencoder`.
        kl_weight: of the KL divergence, both it and the reconstruction summed over an image (paper: 1e-6).
        commitment_weight: of the codebook's loss (van den Oord et al., NeurIPS 2017, eq. 3; β = 0.25 within).
        perceptual: weight of the distance in `HedVgg16`'s features, 0 for none; the paper has LPIPS at 1.
        perceptual_weights: that network's file.
        adversarial: how strong a patch discriminator's gradient is against the reconstruction's, at the last layer; 0: none.
        matching: weight of the discriminator's features beside it.
        adversarial_start: images from which on the decoder pays; until then, the discriminator learns alone.
        judge_width: of the discriminator's first layer.
        random_crop: anywhere along the longer side; else the middle.
        flip: half of the images.
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
    perceptual: float = 0.0
    perceptual_weights: Path | None = None
    adversarial: float = 0.5
    matching: float = 0.0
    adversarial_start: int = 50_000
    judge_width: Annotated[int, Range(8)] = 64
    random_crop: bool = True
    flip: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: a perceptual term without its network, or sides that do not halve so often.
        """
        if self.perceptual > 0 and self.perceptual_weights is None:
            raise ValueError(f"perceptual = {self.perceptual} needs perceptual_weights, the file of its network")
        if self.sample_size % 2 ** (len(self.channels) - 1):
            raise ValueError(f"sample_size {self.sample_size} does not halve {len(self.channels) - 1} times")

    def network(self) -> ImageAutoencoder:
        """The first stage, untrained."""
        return image_autoencoder(
            sample_size=self.sample_size,
            regularisation=self.regularisation,
            latent_channels=self.latent_channels,
            num_codes=self.num_codes,
            channels=self.channels,
            layers_per_block=self.layers_per_block,
            attention=self.attention,
        )


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """What to reconstruct.

    Attributes:
        image: [-1, 1].
        noise: of the posterior's draw.
    """

    image: Tensor
    noise: Tensor


class ImageAutoencoderModule(AdversarialModule):
    """The first stage with its loss as forward."""

    def __init__(self, autoencoder: ImageAutoencoder, config: ImageAutoencoderConfig) -> None:
        judge = PatchDiscriminator(0, config.judge_width, image_channels=3) if config.adversarial > 0 else None
        super().__init__(autoencoder, judge, adversarial=config.adversarial, matching=config.matching)
        self.config = config
        # Not a part of this module's state: it is frozen, and another's.
        self.perceptual: tuple[HedVgg16, ...] = ()
        if config.perceptual_weights is not None and config.perceptual > 0:
            self.perceptual = (load_hed_vgg16(config.perceptual_weights),)

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
        for network in self.perceptual:
            distance = network.to(device).distance((image + 1) / 2, (truth + 1) / 2).mean()
            loss = loss + self.config.perceptual * distance
            terms[network.KEY] = distance.detach()
        nothing, even = truth[:, :0], torch.ones_like(truth[:, :1])
        loss, judged = self.judged(loss, image, truth, nothing, even)
        return loss + penalty, {**terms, **judged}

    def _reconstructed(self, truth: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if isinstance(self.autoencoder, VQModel):
            latents = self.autoencoder.encode(truth).latents
            # In float32 whatever the autocast: distances of near codes cancel.
            with torch.autocast(truth.device.type, enabled=False):
                quantised, loss, (_, _, indices) = self.autoencoder.quantize(latents.float())
            image = self.autoencoder.decode(quantised, force_not_quantize=True).sample.float()
            use = codebook_use(indices, self.config.num_codes)
            told = {"codes_used": torch.tensor(use.share_used), "code_perplexity": torch.tensor(use.perplexity)}
            return image, self.config.commitment_weight * loss, {"commitment": loss.detach(), **told}
        posterior = self.autoencoder.encode(truth).latent_dist
        image = self.autoencoder.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = posterior.kl().mean()
        return image, self.config.kl_weight * kl / truth[0].numel(), {"kl": kl.detach()}


class ImageAutoencoderTask(BaseTask):
    """The first stage of images as an `omote.engine.loop.Task`."""

    module: ImageAutoencoderModule

    def __init__(self, config: ImageAutoencoderConfig) -> None:
        self.config = config
        self.source = ImageSource(
            config.images, size=config.sample_size, random_crop=config.random_crop, flip=config.flip
        )
        torch.manual_seed(config.engine.seed)
        self.module = ImageAutoencoderModule(config.network(), config)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> ImageBatch:
        """Images and their noise."""
        image, _ = self.source.draw(step, seed, size, part, parts)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        side = self.config.sample_size // factor_of(self.module.autoencoder)
        noise = torch.randn((size * parts, self.config.latent_channels, side, side), generator=generator)
        return ImageBatch(image=image, noise=noise[part * size : (part + 1) * size])

    def schedule(self, images: int) -> None:
        """The decoder begins to pay the discriminator."""
        self.module.paying = images >= self.config.adversarial_start

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights, scaled to unit deviation, as a model of diffusers."""
        autoencoder = self.averaged("autoencoder", weights)
        autoencoder.register_to_config(scaling_factor=1 / self._deviation(autoencoder.eval()))
        autoencoder.save_pretrained(folder / "autoencoder")

    @torch.no_grad()
    def _deviation(self, autoencoder: Any) -> float:
        """Of latents over some images (paper, D.1)."""
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
        """Images, and what is left of them."""
        image = self.source.first(PREVIEWS)
        autoencoder = self.module.autoencoder
        device = next(autoencoder.parameters()).device
        return rows_of([image, autoencoder(image.to(device)).sample])
