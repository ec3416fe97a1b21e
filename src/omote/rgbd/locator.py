"""A small network that predicts a face's landmarks from the source latent, to start fitting a head model from."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.geometry.camera import orbit_camera, project
from omote.head.model import HeadModel
from omote.rgbd.warp import IMAGE_SIZE


class LandmarkLocator(nn.Module):
    """The 68 landmarks of a person at rest, from a source latent in any expression.

    Args:
        latent_channels: channels of the autoencoder's latent.
        sample_size: latent pixels of a side.
        width: channels of the layers.
    """

    mean_px: Tensor

    def __init__(self, latent_channels: int, sample_size: int, width: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * latent_channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(width * (sample_size // 8) ** 2, 128),
            nn.SiLU(),
            nn.Linear(128, 68 * 2),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("mean_px", torch.zeros(68, 2))

    def start_from(self, head: HeadModel) -> None:
        """Predict offsets from the landmarks of a head model's mean."""
        self.mean_px.copy_(mean_landmarks(head))

    def forward(self, source: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 68 2"]:
        """Scaled source latents → landmarks, pixels of an image of `IMAGE_SIZE`."""
        out: Tensor = self.mean_px + 4.0 * self.net(source).unflatten(1, (68, 2))
        return out


def mean_landmarks(head: HeadModel) -> Float[Tensor, "68 2"]:
    """Landmarks of a head model's mean at rest in the standard camera, pixels of an image of `IMAGE_SIZE`."""
    uvz = project(orbit_camera(size=IMAGE_SIZE), head.landmarks(head.template_mm))
    return torch.from_numpy(uvz[:, :2].astype(np.float32))
