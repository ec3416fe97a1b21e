"""OpenVINO execution of the networks on CPUs; the same results as PyTorch to 1e-4.

Whether it is faster depends on the processor; `omote study verification` times both. Networks are converted in memory at their
first call, from the same safetensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from omote.errors import of_extra
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.latent_editor import Context, LatentEditor
from omote.rgbd.networks import Networks


class _Call(nn.Module):
    """One call of the networks as a module, the form that OpenVINO's converter accepts."""

    def __init__(self, networks: Networks, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.autoencoder, self.editor = networks.autoencoder, networks.editor
        self.call = call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


class OpenVinoNetworks(Networks):
    """`Networks` whose calls run in OpenVINO, in float32."""

    def __init__(self, autoencoder: FirstStage, editor: LatentEditor) -> None:
        super().__init__(autoencoder, editor)
        self._compiled: dict[str, Any] = {}

    def _run(self, name: str, call: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Run a call, which is converted the first time (one to two seconds)."""
        if name not in self._compiled:
            with of_extra("openvino"):
                import openvino
                from openvino.tools.ovc import telemetry_stub, telemetry_utils
            # `omote/__init__.py` turns telemetry off, but too late if a program imports OpenVINO before omote.
            telemetry_utils.tm = telemetry_stub
            shapes = [[-1, *tensor.shape[1:]] for tensor in inputs]
            # The trace is not checked by a second one: a test compares the results.
            with warnings.catch_warnings():
                # Tracing warns that image sizes become constants, as intended; the batch size does not.
                warnings.simplefilter("ignore")
                traced = torch.jit.trace(_Call(self, call).eval(), inputs, check_trace=False)
            converted = openvino.convert_model(traced, example_input=inputs, input=shapes)
            self._compiled[name] = openvino.compile_model(
                converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
            )
        result = self._compiled[name]([tensor.contiguous().numpy() for tensor in inputs])[0]
        return torch.from_numpy(result.copy())

    def encode(self, x: Tensor) -> Tensor:
        """Packed images → latents."""
        return self._run("encode", super().encode, x)

    def decode(self, z: Tensor, source: Tensor, motion: Tensor) -> Tensor:
        """Latents, source images and motion images → packed images."""
        return self._run("decode", super().decode, z, source, motion)

    def velocity(self, z_t: Tensor, t: Tensor, source: Tensor, context: Context) -> Tensor:
        """The flow's velocity at one step."""
        # A converted network has a fixed set of inputs, and the editor determines which parts its context has.
        parts = {name: value for name, value in vars(context).items() if value is not None}

        def velocity(z_t: Tensor, t: Tensor, source: Tensor, *values: Tensor) -> Tensor:
            return self.editor.velocity(z_t, t, source, Context(**dict(zip(parts, values, strict=True))))

        return self._run(" ".join(("velocity", *parts)), velocity, z_t, t, source, *parts.values())
