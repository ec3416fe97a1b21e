"""VGG16's convolutions, and the weights that turn them into LPIPS (Zhang et al., CVPR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
# ImageNet's mean and standard deviation, as LPIPS applies them to colours in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class _Linear(nn.Module):
    """One layer's weights, under their published name ``lin<k>.model.1.weight``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))


class LpipsVgg16(nn.Module):
    """LPIPS; the weights are torchvision's ``features.*`` of VGG16 and LPIPS' ``lin*.model.1.weight`` in one file."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = 3
        for channels, count in zip(CHANNELS, CONVOLUTIONS, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inner, channels, 3, padding=1), nn.ReLU()]
                inner = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.lin0, self.lin1, self.lin2, self.lin3, self.lin4 = (_Linear(c) for c in CHANNELS)

    def stages(self, rgb: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps of colours in [0, 1]: relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
        shift, scale = (torch.tensor(v, dtype=rgb.dtype).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x, maps = (2 * rgb - 1 - shift) / scale, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        return maps

    def weights(self) -> list[Float[Tensor, " c"]]:
        """Weights of each stage's channels."""
        linears = (self.lin0, self.lin1, self.lin2, self.lin3, self.lin4)
        return [linear.model.get_parameter("1.weight").flatten() for linear in linears]
