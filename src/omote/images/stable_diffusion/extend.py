"""What makes a Stable Diffusion U-Net one of depth, of views, or of further inputs: a stock ``UNet2DConditionModel`` throughout.

Depth: a second latent beside the colour's. ``zeros`` gives it no influence on colour at first; ``halved`` repeats the weights
and halves those of the input (Ke et al., "Marigold", CVPR 2024, §3.2). Views: self-attention over the tokens of all views and
the camera through the projected class embedding, whose second layer starts at zero (Shi et al., "MVDream", ICLR 2024, §3).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from omote.geometry.rig import NUM_CAMERA
from omote.nets.view_attention import ViewAttention

DepthInit = Literal["zeros", "halved"]
CONVOLUTIONS = ("conv_in", "conv_out")


@torch.no_grad()
def extended(
    unet: Any, *, depth: bool = False, init: DepthInit = "zeros", num_views: int = 0, more_inputs: int = 0
) -> Any:
    """A U-Net with the same weights and more to read and write; it shares the tensors that keep their shape.

    Args:
        unet: ``UNet2DConditionModel`` of colour, of one image.
        depth: whether to add a second latent to input and output.
        init: first weights of the second latent.
        num_views: number of views to denoise together; 0 keeps single images.
        more_inputs: number of input channels to add, after those of the latents; their weights start at zero.
    """
    changes: dict[str, Any] = {}
    config = unet.config
    latents = 2 if depth else 1
    changes["in_channels"] = latents * config.in_channels + more_inputs
    changes["out_channels"] = latents * config.out_channels
    if num_views:
        changes |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": NUM_CAMERA}
    with torch.device("meta"):
        new = type(unet).from_config(config, **changes)
    if num_views:
        new.class_embedding.to_empty(device="cpu").apply(_drawn)
    state = new.state_dict()
    for name, value in unet.state_dict().items():
        state[name] = (
            value if state[name].shape == value.shape else _extended(value, state[name], init if depth else "zeros")
        )
    new.load_state_dict(state, assign=True)
    if num_views:
        nn.init.zeros_(new.class_embedding.linear_2.weight)
        nn.init.zeros_(new.class_embedding.linear_2.bias)
        new.set_attn_processor(ViewAttention(num_views))
    return new.to(next(unet.parameters()).dtype).train(unet.training)


def _drawn(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.reset_parameters()


def _extended(value: Tensor, like: Tensor, init: DepthInit) -> Tensor:
    """Weight or bias of a convolution, in the shape of a larger one."""
    out = torch.zeros(like.shape, dtype=value.dtype)
    index = tuple(slice(size) for size in value.shape)
    out[index] = value
    if init == "halved":
        if out.ndim > 1 and like.shape[1] > value.shape[1]:
            count = value.shape[1]
            out[:, :count] = out[:, count : 2 * count] = value / 2
        elif like.shape[0] > value.shape[0]:
            out[value.shape[0] : 2 * value.shape[0]] = value
    return out


def new_parts(unet: Any) -> dict[str, nn.Module]:
    """The parts of an extended U-Net that hold new weights, which low-rank training trains in full."""
    names = [*CONVOLUTIONS, *(["class_embedding"] if unet.config.class_embed_type == "projection" else [])]
    return {name: getattr(unet, name) for name in names}
