"""Prediction targets and loss weights: ε, v and flow prediction behind one interface.

All Gaussian paths are the same up to scale: the straight path's z_t = (1 - t) z_0 + t ε, divided by s = √((1-t)² + t²), is the
point of the variance-preserving path with α = (1-t)/s, σ = t/s. So a network that predicts any of

    ε            the noise                        the seed's L_LDM (Rombach et al. 2022, eq. 2; Ho et al. 2020)
    v            α ε - σ z_0                      Salimans & Ho 2022, appendix D
    flow         ε - z_0                          Liu et al. 2023, eq. 1

also gives the straight path's velocity, which is all that samplers need, and an error of one is a weighted error of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from omote.config import Range

Prediction = Literal["v", "epsilon", "flow"]
Weighting = Literal["prediction", "z_0", "flow", "min_snr"]
Times = Literal["logit_normal", "uniform", "cosine", "linear"]
# Ratio of noise to signal at the last of the 1000 steps of Stable Diffusion's scaled-linear schedule.
LAST_RATIO = 14.6


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How a denoiser is trained.

    Attributes:
        prediction: quantity that the network predicts.
        weighting: quantity whose squared error is the loss: the prediction itself, z_0, the flow, or z_0 weighted by min(SNR, γ)
            (Hang et al., "Min-SNR", ICCV 2023).
        min_snr_gamma: bound γ of the signal-to-noise ratio in the weighting "min_snr".
        times: distribution of training times: logit-normal (Esser et al. 2024, eq. 19), uniform on the straight path, or that of
            the timesteps of the cosine (Nichol & Dhariwal 2021) or scaled-linear (Rombach et al. 2022) schedule.
        at_noise: share of items at exactly t = 1, where a sampler takes its first step.
        zero_terminal_snr: whether training reaches pure noise, t = 1; if not, it ends where Stable Diffusion's schedule ends, and
            samplers begin with more noise than was seen in training (Lin et al., WACV 2024, §3.1).
    """

    prediction: Prediction = "v"
    weighting: Weighting = "prediction"
    min_snr_gamma: Annotated[float, Range(0.01)] = 5.0
    times: Times = "logit_normal"
    at_noise: Annotated[float, Range(0, 1)] = 0.15
    zero_terminal_snr: bool = True

    def __post_init__(self) -> None:
        """Refuse an objective that cannot be learned.

        Raises:
            ValueError: ε prediction at pure noise, which does not determine the image.
        """
        if self.prediction == "epsilon" and self.zero_terminal_snr:
            raise ValueError(
                "epsilon does not determine the image at zero SNR: give zero_terminal_snr = false, or predict v"
            )

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "count"]:
        """Draw training times in [0, 1]."""
        u = torch.rand(count, generator=generator)
        normal = torch.randn(count, generator=generator)
        match self.times:
            case "logit_normal":
                t = torch.sigmoid(normal + 0.3)
            case "uniform":
                t = u
            case "cosine":
                ratio = torch.tan(u * torch.pi / 2)
                t = ratio / (1 + ratio)
            case "linear":
                t = _ratio_time(_scaled_linear_ratio(u))
        last = torch.ones(()) if self.zero_terminal_snr else _ratio_time(torch.tensor(LAST_RATIO))
        t = torch.where(torch.rand(count, generator=generator) < self.at_noise, last, t)
        return torch.minimum(t, last)

    def weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Weight that turns a squared error of the straight path's velocity into one of the quantity in `weighting`.

        Since z_0 = z_t - t u and ε = z_t + (1-t) u for a velocity u, an error e of the velocity is an error t e of z_0,
        (1-t) e of ε and s e of v.
        """
        in_z_0, in_noise = t**2, (1 - t) ** 2
        match self.weighting:
            case "flow":
                return torch.ones_like(t)
            case "z_0":
                return in_z_0
            case "min_snr":
                return torch.minimum(in_noise, self.min_snr_gamma * in_z_0)
            case "prediction":
                return {"flow": torch.ones_like(t), "epsilon": in_noise, "v": in_z_0 + in_noise}[self.prediction]


def velocity_of(
    prediction: Prediction, output: Float[Tensor, "b d h w"], z_t: Float[Tensor, "b d h w"], t: Float[Tensor, "b"]
) -> Float[Tensor, "b d h w"]:
    """Convert a network's output to the straight path's velocity ε - z_0.

    Args:
        prediction: quantity that the network predicts; "v" has the sign of z_0, that is σ z_0 - α ε, so that an output of zero
            at t = 1 means no change.
        output: output of the network.
        z_t: point on the straight path at time t.
        t: time in (0, 1].
    """
    t = t.view(-1, *[1] * (z_t.ndim - 1))
    match prediction:
        case "flow":
            return output
        case "epsilon":
            # At pure noise ε does not determine z_0; training ends before it (`Objective`).
            return (output - z_t) / (1 - t).clamp(min=1 / (1 + LAST_RATIO))
        case "v":
            squared = (1 - t) ** 2 + t**2
            return (2 * t - 1) / squared * z_t - output / squared.sqrt()


def pseudo_huber(squared: Float[Tensor, "..."], c: float) -> Float[Tensor, "..."]:
    """Pseudo-Huber loss of a squared error e²: about e² for |e| ≪ c, about 2 c |e| for |e| ≫ c (Charbonnier et al., 1997)."""
    return 2 * c * (torch.sqrt(squared + c**2) - c)


def _ratio_time(ratio: Tensor) -> Tensor:
    return ratio / (1 + ratio)


def _scaled_linear_ratio(u: Tensor) -> Tensor:
    """σ/α at a share u of Stable Diffusion's 1000 steps, whose √β grows linearly (β from .00085 to .012)."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - beta, dim=0)
    index = (u * 1000).long().clamp(max=999)
    return torch.sqrt((1 - signal[index]) / signal[index]).float()
