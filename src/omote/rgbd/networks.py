"""The two networks of candidate 3, and the calls that an edit is made of.

`Networks` runs them in PyTorch. A backend is a subclass that runs the same calls elsewhere
(`omote.rgbd.backends.openvino`); `omote.rgbd.model.EditingModel` is given one of them.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.latent_editor import Context, LatentEditor


class Networks:
    """A frozen first stage and editor, run by PyTorch.

    Attributes:
        autoencoder: the first stage.
        editor: the denoiser of its latents.
    """

    def __init__(self, autoencoder: FirstStage, editor: LatentEditor) -> None:
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.editor = editor.eval().requires_grad_(False)

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Packed images → latents."""
        return self.autoencoder.encode(x).mode()

    def decode(
        self, z: Float[Tensor, "b d h w"], source: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b 9 m m"]
    ) -> Float[Tensor, "b 5 s s"]:
        """Latents, their source images and motion images → packed images."""
        return self.autoencoder.decode(z, source, motion)

    def velocity(
        self, z_t: Float[Tensor, "b d h w"], t: Float[Tensor, "b"], source: Float[Tensor, "b d h w"], context: Context
    ) -> Float[Tensor, "b d h w"]:
        """The flow's velocity at one step (`LatentEditor.velocity`)."""
        return self.editor.velocity(z_t, t, source, context)
