"""CLIP's image tower ViT-B/32 (Radford et al., ICML 2021), with the names of the weights in the Hugging Face file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIZE, PATCH, WIDTH, HEADS, LAYERS, NUM_FEATURES = 224, 32, 768, 12, 12, 512
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.v_proj, self.out_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))  # "quick" GELU


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer_norm1, self.self_attn = nn.LayerNorm(WIDTH), _Attention()
        self.layer_norm2, self.mlp = nn.LayerNorm(WIDTH), _Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.position_embedding = nn.Embedding((SIZE // PATCH) ** 2 + 1, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        return torch.cat([first, patches], 1) + self.position_embedding.weight


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Layer() for _ in range(LAYERS)))


class _Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = _Embeddings()
        self.pre_layrnorm = nn.LayerNorm(WIDTH)  # the published spelling
        self.encoder = _Encoder()
        self.post_layernorm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder.layers(self.pre_layrnorm(self.embeddings(x)))
        return self.post_layernorm(x[:, 0])


class ClipVitB32(nn.Module):
    """The image tower and its projection."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_model = _Tower()
        self.visual_projection = nn.Linear(WIDTH, NUM_FEATURES, bias=False)

    def forward(self, rgb: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 512"]:
        """Image embeddings of colours in [0, 1], not normalised."""
        mean, std = (torch.tensor(v, dtype=rgb.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
        return self.visual_projection(self.vision_model((rgb - mean) / std))
