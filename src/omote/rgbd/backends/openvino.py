"""OpenVINO execution of the editing model on CPUs; the same answers as PyTorch to 1e-4.

How much faster, if at all, depends on the processor: `omote study verification` times both. Networks are converted in memory at
load time, from the same safetensors.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from omote.errors import CheckpointError
from omote.rgbd.editor import Context
from omote.rgbd.model import EditingModel


class _Encode(nn.Module):
    def __init__(self, model: EditingModel) -> None:
        super().__init__()
        self.autoencoder = model.autoencoder

    def forward(self, x: Tensor) -> Tensor:
        mode: Tensor = self.autoencoder.encode(x).mode()
        return mode


class _Decode(nn.Module):
    def __init__(self, model: EditingModel) -> None:
        super().__init__()
        self.autoencoder = model.autoencoder

    def forward(self, z: Tensor, source: Tensor, motion: Tensor) -> Tensor:
        image: Tensor = self.autoencoder.decode(z, source, motion)
        return image


class _Velocity(nn.Module):
    def __init__(self, model: EditingModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.editor = model.editor
        self.names = names

    def forward(self, z_t: Tensor, t: Tensor, source: Tensor, *parts: Tensor) -> Tensor:
        context = Context(**dict(zip(self.names, parts, strict=True)))
        velocity: Tensor = self.editor.velocity(z_t, t, source, context)
        return velocity


class OpenVinoEditingModel(EditingModel):
    """`EditingModel` whose three network calls run in OpenVINO, in float32."""

    def __init__(self, model: EditingModel) -> None:
        super().__init__(model.autoencoder, model.editor, weights=model.weights)
        self._compiled: dict[str, Any] = {}

    def _run(self, name: str, module: nn.Module, *inputs: Tensor) -> Tensor:
        """Convert at the first call (each takes a second or two), then infer."""
        if name not in self._compiled:
            try:
                import openvino
            except ImportError:
                raise CheckpointError(
                    "backend openvino: the package is not installed; pip install 'omote[openvino]', or use torch"
                ) from None
            shapes = [[-1, *tensor.shape[1:]] for tensor in inputs]
            # The converter would check its trace by tracing again; a test of ours compares the answers.
            with warnings.catch_warnings():
                # Sizes of images are constants of a converted network; batches are not.
                warnings.simplefilter("ignore")
                traced = torch.jit.trace(module.eval(), inputs, check_trace=False)
            converted = openvino.convert_model(traced, example_input=inputs, input=shapes)
            self._compiled[name] = openvino.compile_model(
                converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
            )
        result = self._compiled[name]([tensor.contiguous().numpy() for tensor in inputs])[0]
        return torch.from_numpy(result.copy())

    def encode(self, x: Tensor) -> Tensor:
        """Packed images → latents."""
        return self._run("encode", _Encode(self), x)

    def decode(self, z: Tensor, source: Tensor, motion: Tensor) -> Tensor:
        """Latents, their source images and motion images → packed images."""
        return self._run("decode", _Decode(self), z, source, motion)

    def velocity(self, z_t: Tensor, t: Tensor, source: Tensor, context: Context) -> Tensor:
        """The editor at a step."""
        # What a condition is made of differs, and a converted network has fixed inputs.
        parts = {name: value for name, value in vars(context).items() if value is not None}
        name = " ".join(("velocity", *parts))
        return self._run(name, _Velocity(self, tuple(parts)), z_t, t, source, *parts.values())
