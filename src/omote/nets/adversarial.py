"""A discriminator beside an autoencoder, so that one optimiser moves both: what the first stage and the decoder share."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.nets.discriminator import PatchDiscriminator

MAX_BALANCE = 20.0
FOLLOW_RATE = 0.02
FULL_LEAD = 0.4


class AdversarialModule(nn.Module):
    """An autoencoder and, if it has to pay one, a discriminator.

    Args:
        autoencoder: whose decoder pays.
        discriminator: None for none.
        adversarial: how strong its gradient is against the reconstruction's, at the decoder's last layer.
        matching: weight of its features beside it.
    """

    balance: Tensor
    lead: Tensor

    def __init__(
        self,
        autoencoder: nn.Module,
        discriminator: PatchDiscriminator | None,
        *,
        adversarial: float,
        matching: float,
    ) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder
        self.discriminator = discriminator
        self.adversarial = adversarial
        self.matching = matching
        # Opened by the task's schedule: until then the discriminator learns alone.
        self.paying = False
        if discriminator is not None:
            # |gradient of the reconstruction| / |of the adversarial loss| at the last layer, followed slowly.
            self.register_buffer("balance", torch.zeros(()))
            # How much better than a coin the discriminator is, followed slowly: a hinge loss of 2 is a coin.
            self.register_buffer("lead", torch.zeros(()))

    def judged(
        self,
        loss: Float[Tensor, ""],
        image: Float[Tensor, "b i s s"],
        truth: Float[Tensor, "b i s s"],
        condition: Float[Tensor, "b c s s"],
        weight: Float[Tensor, "b 1 s s"],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add what both sides pay to a reconstruction loss; as it came where there is no discriminator.

        Args:
            loss: the reconstruction's.
            image: decoded.
            truth: rendered.
            condition: what the discriminator sees beside either.
            weight: of each pixel.
        """
        if self.discriminator is None:
            return loss, {}
        own, adversarial, matching = self.discriminator.judge(image, truth, condition, weight)
        self.lead.lerp_(2 - own.detach(), FOLLOW_RATE)
        if self.paying:
            self._follow_balance(loss, adversarial)
            # One that cannot tell has nothing to teach, and learns best from a decoder that does not run from it.
            taught = (self.lead / FULL_LEAD).clamp(0, 1)
            loss = loss + self.adversarial * taught * self.balance * adversarial + self.matching * matching
        terms = {"discriminator": own.detach(), "matching": matching.detach(), "balance": self.balance.clone()}
        return loss + own, terms

    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer."""
        weight: Tensor = self.autoencoder.to_pixels.weight
        return weight

    def _follow_balance(self, reconstruction: Tensor, adversarial: Tensor) -> None:
        """The adaptive weight of Esser et al., "Taming Transformers", CVPR 2021, eq. 7."""
        last = self.last_weight()
        by = [torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in (reconstruction, adversarial)]
        self.balance.lerp_((by[0] / (by[1] + 1e-6)).clamp(max=MAX_BALANCE), FOLLOW_RATE)
