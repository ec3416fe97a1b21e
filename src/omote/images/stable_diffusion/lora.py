"""Low-rank adaptation of the attention layers (Hu et al., "LoRA", ICLR 2022): W + B A, with B zero at first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
FILE = "pytorch_lora_weights.safetensors"


class LowRank(nn.Module):
    """Low-rank changes of a frozen network's attention layers.

    The changes are added by hooks, and the network itself is no part of this module, so its state is the changes alone.

    Args:
        network: network whose attention layers are changed.
        rank: rank of the changes.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        super().__init__()
        layers = {name: layer for name, layer in network.named_modules() if name.endswith(TARGETS)}
        self.names = {name.replace(".", "-"): name for name in layers}
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, layer in layers.items():
            assert isinstance(layer, nn.Linear)
            key, size = name.replace(".", "-"), min(rank, *layer.weight.shape)
            self.down[key] = nn.Parameter(torch.empty(size, layer.in_features))
            nn.init.kaiming_uniform_(self.down[key], a=math.sqrt(5))
            self.up[key] = nn.Parameter(torch.zeros(layer.out_features, size))
            layer.register_forward_hook(self._change(key))

    def _change(self, key: str) -> Any:
        def hook(_layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out + inputs[0] @ self.down[key].T @ self.up[key].T

        return hook


@torch.no_grad()
def merge(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Add low-rank changes to the weights of a network without hooks.

    Args:
        network: network to change.
        state: state of a `LowRank`.
    """
    for key, up in state.items():
        if key.startswith("up."):
            name = key.removeprefix("up.")
            weight = network.get_submodule(name.replace("-", ".")).weight
            assert isinstance(weight, Tensor)
            weight += (up @ state[f"down.{name}"]).to(weight)


def save_lora(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write the changes as diffusers' ``load_lora_weights`` reads them."""
    names = {"down": "lora_A", "up": "lora_B"}
    tensors = {}
    for key, value in state.items():
        kind, _, name = key.partition(".")
        tensors[f"unet.{name.replace('-', '.')}.{names[kind]}.weight"] = value.contiguous()
    save_file(tensors, folder / FILE, {"format": "pt"})
