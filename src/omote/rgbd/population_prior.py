"""The prior of a person without a source: a Gaussian fitted to a population's latents.

Its posterior mean of a clean latent given a noisy one is linear and known in closed form, and it is most of what a denoiser must
learn (Wang & Vastola, "The Unreasonable Effectiveness of Gaussian Score Approximation for Diffusion Models", TMLR 2024). So an
editor that samples persons only learns the remainder, as it only learns what moving the source misses in an edit.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.nets.precision import in_float32

NUM_COMPONENTS = 128
EARLIEST = 1e-3  # below this time, noise is negligible


class PopulationPrior(nn.Module):
    """Mean, principal components and residual variance per channel (Tipping & Bishop, "Probabilistic PCA", 1999, eq. 6).

    Args:
        channels: channels of a latent.
        size: latent pixels of a side.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, size, size))
        self.register_buffer("components", torch.zeros(NUM_COMPONENTS, channels, size, size))
        self.register_buffer("variances", torch.zeros(NUM_COMPONENTS))
        self.register_buffer("rest", torch.ones(channels))

    @torch.no_grad()
    def fit(self, latents: Float[Tensor, "n d h w"]) -> None:
        """Fit to scaled latents.

        Args:
            latents: latents of many persons; n of them give at most n - 1 components.
        """
        self.mean.copy_(latents.mean(dim=0))
        x = (latents - self.mean).flatten(1)
        # The smaller of the two Gram matrices has the same spectrum.
        squares, sides = torch.linalg.eigh((x @ x.T).double())
        count = min(NUM_COMPONENTS, len(x) - 1)
        squares, sides = squares.flip(0)[:count].clamp_min(1e-12), sides.flip(1)[:, :count]
        directions = (x.T.double() @ sides / squares.sqrt()).T.float()
        self.components.zero_()
        self.variances.zero_()
        self.components[:count] = directions.unflatten(1, self.mean.shape)
        self.variances[:count] = squares / len(x)
        left = x - (x @ directions.T) @ directions
        self.rest.copy_(left.view_as(latents).square().mean(dim=(0, 2, 3)).clamp_min(1e-6))

    @in_float32
    def expected(self, z_t: Float[Tensor, "b d h w"], t: Float[Tensor, "b"]) -> Float[Tensor, "b d h w"]:
        """E[z_0 | z_t] on the straight path; exact if the residual variance is the same in all channels.

        Args:
            z_t: (1 - t) z_0 + t ε.
            t: [0, 1].
        """
        t = t.clamp_min(EARLIEST)
        signal, noise = (1 - t)[:, None], t[:, None] ** 2
        x = z_t - (1 - t).view(-1, 1, 1, 1) * self.mean
        directions = self.components.flatten(1)
        along = x.flatten(1) @ directions.T
        left = x - (along @ directions).view_as(x)
        gain = signal * self.variances / (signal**2 * self.variances + noise)
        others = signal * self.rest / (signal**2 * self.rest + noise)
        known = ((gain * along) @ directions).view_as(x)
        return self.mean + known + others[:, :, None, None] * left
