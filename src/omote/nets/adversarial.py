"""Loss terms of autoencoders besides the reconstruction: a perceptual distance and a patch discriminator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.nets.discriminator import PatchDiscriminator
from omote.nets.perceptual import HedVgg16, load_hed_vgg16

MAX_BALANCE = 20.0
FOLLOW_RATE = 0.02
FULL_LEAD = 0.4


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """Terms of an autoencoder's loss besides the reconstruction.

    Attributes:
        perceptual: weight of the colours' distance in the features of `HedVgg16`; 0 for none. The paper has LPIPS at weight 1.
        perceptual_weights: file of the weights of `HedVgg16`.
        adversarial: norm of the adversarial gradient relative to the reconstruction's, at the last layer; 0 for none.
        matching: weight of the distance in the discriminator's features.
        adversarial_start: number of images after which the adversarial loss reaches the decoder; before, only the
            discriminator learns from it.
    """

    perceptual: float = 0.0
    perceptual_weights: Path | None = None
    adversarial: float = 0.0
    matching: float = 0.0
    adversarial_start: int = 10_000

    def __post_init__(self) -> None:
        """Refuse a perceptual term without its network.

        Raises:
            ValueError: no ``perceptual_weights``.
        """
        if self.perceptual > 0 and self.perceptual_weights is None:
            raise ValueError(f"perceptual = {self.perceptual} needs perceptual_weights, the file of its network")


class AdversarialModule(nn.Module):
    """An autoencoder with its perceptual and adversarial loss.

    Args:
        autoencoder: network whose decoder is trained against the discriminator.
        discriminator: patch discriminator, or None for no adversarial loss.
        terms: weights of the loss terms.
    """

    balance: Tensor
    lead: Tensor

    def __init__(
        self,
        autoencoder: nn.Module,
        discriminator: PatchDiscriminator | None,
        terms: LossTerms,
    ) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder
        self.discriminator = discriminator
        self.terms = terms
        # In a tuple, so that the frozen network is not part of this module's state.
        self.perceptual: tuple[HedVgg16, ...] = ()
        if terms.perceptual_weights is not None and terms.perceptual > 0:
            self.perceptual = (load_hed_vgg16(terms.perceptual_weights),)
        # Set by the task's schedule at `adversarial_start`; until then only the discriminator learns.
        self.paying = False
        if discriminator is not None:
            # |gradient of the reconstruction loss| / |gradient of the adversarial loss| at the last layer, moving average.
            self.register_buffer("balance", torch.zeros(()))
            # Moving average of how far the discriminator's hinge loss is below chance, which is 2.
            self.register_buffer("lead", torch.zeros(()))

    def judged(
        self,
        loss: Float[Tensor, ""],
        image: Float[Tensor, "b i s s"],
        truth: Float[Tensor, "b i s s"],
        condition: Float[Tensor, "b c s s"],
        weight: Float[Tensor, "b 1 s s"],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the perceptual and adversarial terms, and the discriminator's own loss, to a reconstruction loss.

        Args:
            loss: reconstruction loss.
            image: decoded images in [-1, 1], with colour in the first channels.
            truth: ground truth of the images.
            condition: input of the discriminator besides an image.
            weight: weight of each pixel.
        """
        terms: dict[str, Tensor] = {}
        for network in self.perceptual:
            rgb, true_rgb = ((x[:, :3] + 1) / 2 for x in (image, truth))
            distance = network.to(image.device).distance(rgb, true_rgb).mean()
            loss, terms[network.KEY] = loss + self.terms.perceptual * distance, distance.detach()
        if self.discriminator is None:
            return loss, terms
        own, adversarial, matching = self.discriminator.judge(image, truth, condition, weight)
        self.lead.lerp_(2 - own.detach(), FOLLOW_RATE)
        if self.paying:
            self._follow_balance(loss, adversarial)
            # A discriminator at chance gives no useful gradient, and learns best while the decoder ignores it.
            taught = (self.lead / FULL_LEAD).clamp(0, 1)
            weighted = self.terms.adversarial * taught * self.balance * adversarial
            loss = loss + weighted + self.terms.matching * matching
        terms |= {"discriminator": own.detach(), "matching": matching.detach(), "balance": self.balance.clone()}
        return loss + own, terms

    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer."""
        weight: Tensor = self.autoencoder.to_pixels.weight
        return weight

    def _follow_balance(self, reconstruction: Tensor, adversarial: Tensor) -> None:
        """Update the adaptive weight of Esser et al., "Taming Transformers", CVPR 2021, eq. 7."""
        last = self.last_weight()
        by = [torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in (reconstruction, adversarial)]
        self.balance.lerp_((by[0] / (by[1] + 1e-6)).clamp(max=MAX_BALANCE), FOLLOW_RATE)
