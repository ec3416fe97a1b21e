"""The two networks of candidate 3, and the calls that an edit is made of.

`Networks` runs them in PyTorch. A backend is a subclass that runs the same calls elsewhere
(`omote.rgbd.backends.openvino`); `omote.rgbd.model.EditingModel` is given one of them.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor

from omote.engine.precision import MARGIN, Precision, autocast
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.latent_editor import Context, LatentEditor


class Networks:
    """A frozen first stage and editor, run by PyTorch.

    Args:
        autoencoder: the first stage.
        editor: the denoiser of its latents.
        precision: of convolutions and matrix products.
    """

    def __init__(self, autoencoder: FirstStage, editor: LatentEditor, *, precision: Precision = "fp32") -> None:
        self.precision = precision
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.editor = editor.eval().requires_grad_(False)

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Packed images → latents."""
        with self._autocast():
            return self.autoencoder.encode(x).mode()

    def decode(
        self, z: Float[Tensor, "b d h w"], source: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b 9 m m"]
    ) -> Float[Tensor, "b 5 s s"]:
        """Latents, their source images and motion images → packed images."""
        with self._autocast():
            return self.autoencoder.decode(z, source, motion)

    def velocity(
        self, z_t: Float[Tensor, "b d h w"], t: Float[Tensor, "b"], source: Float[Tensor, "b d h w"], context: Context
    ) -> Float[Tensor, "b d h w"]:
        """The flow's velocity at one step (`LatentEditor.velocity`)."""
        with self._autocast():
            return self.editor.velocity(z_t, t, source, context)

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.autoencoder.latent_std.device, self.precision)


@torch.no_grad()
def fastest_precision(networks: Networks) -> Precision:
    """The precision in which a first stage decodes one person's images faster on this machine; measured in about a second."""
    config = networks.autoencoder.config
    x = torch.zeros(7, 5, config.sample_size, config.sample_size)
    seconds: dict[Precision, float] = {"fp32": float("inf"), "bf16": float("inf")}
    z = networks.encode(x)
    for _ in range(3):
        for precision in seconds:
            start = time.perf_counter()
            with autocast(z.device, precision):
                networks.autoencoder.decode(z, x)
            seconds[precision] = min(seconds[precision], time.perf_counter() - start)
    return "bf16" if seconds["bf16"] < MARGIN * seconds["fp32"] else "fp32"
