"""Training of the text conditioner, which reads texts into the category's token of a frozen editor.

The training target is the editor's own category token: the caption "slightly sad" must give the token of category sad at
intensity .4. So the diffusion model needs no training with text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import built, load_pretrained
from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.category import Category, CategoryReader
from omote.rgbd.conditions.text.captions import draw_caption
from omote.rgbd.conditions.text.conditioner import TextConditioner
from omote.rgbd.conditions.text.encoders import TextFeatures, encode_texts
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.weights import SHIPPED_WEIGHTS

ENCODE_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """A run of the text conditioner.

    Attributes:
        engine: length and optimiser; an "image" is a caption.
        editor: exported second stage whose tokens are the targets; the shipped one if None.
        num_captions: captions; they are drawn and encoded once, because the encoders are frozen.
        width, num_queries, heads: of `TextConditioner`.
        drop_tokens: share of English captions read by the sentence vector alone.
        drop_vector: share of English captions read by the token states alone.
        vector_noise: deviation of noise on the sentence vector; the vector's own is about .044 per component.
        smoothing: label smoothing of the categories.
        english: folder of the English encoder; the installed package's if None.
    """

    engine: EngineConfig
    editor: Path | None = None
    num_captions: int = 24_576
    width: int = 128
    num_queries: int = 4
    heads: int = 4
    drop_tokens: float = 0.4
    drop_vector: float = 0.4
    vector_noise: float = 0.03
    smoothing: float = 0.1
    english: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Encoded captions with their categories, intensities and target tokens."""

    features: TextFeatures
    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]
    token: Float[Tensor, "b k"]


class TextModule(nn.Module):
    """The conditioner with its loss as forward."""

    token_std: Tensor

    def __init__(self, conditioner: TextConditioner, token_std: Tensor, smoothing: float) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.smoothing = smoothing
        self.register_buffer("token_std", token_std, persistent=False)

    def forward(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Token error in units of the tokens' deviation + cross-entropy of the category + error of the intensity."""
        reading = self.conditioner(batch.features)
        token = ((reading.token - batch.token) / self.token_std).square().mean()
        # Smoothed, so that an ambiguous text gets no confident category.
        category = F.cross_entropy(reading.logits, batch.category, label_smoothing=self.smoothing)
        shown = batch.category != CATEGORIES.index("neutral")
        intensity = ((reading.intensity - batch.intensity).abs() * shown).sum() / shown.sum().clamp(min=1)
        right = (reading.logits.argmax(dim=1) == batch.category).float().mean()
        metrics = {"token": token, "category": category, "intensity": intensity, "top1": right}
        return token + 0.5 * category + intensity, {k: v.detach() for k, v in metrics.items()}


class TextTask(BaseTask):
    """The text conditioner as an `omote.engine.loop.Task`."""

    module: TextModule

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        teacher = load_pretrained(LatentEditor, config.editor or SHIPPED_WEIGHTS / "editor").float()
        rng = np.random.default_rng([5, config.engine.seed])
        captions = [draw_caption(rng) for _ in range(config.num_captions)]
        self.features = [
            encode_texts([c.text for c in captions[i : i + ENCODE_AT_ONCE]], english=config.english)
            for i in range(0, len(captions), ENCODE_AT_ONCE)
        ]
        self.category = torch.tensor([CATEGORIES.index(c.category) for c in captions])
        self.intensity = torch.tensor([c.intensity for c in captions])
        with torch.no_grad():
            reader = teacher.conditioner.reader(Category)
            assert isinstance(reader, CategoryReader)
            self.token = reader.token(self.category, self.intensity)
        torch.manual_seed(config.engine.seed)
        conditioner = built(TextConditioner, config, context_width=self.token.shape[1])
        self.module = TextModule(conditioner, self.token.std(dim=0).mean(), config.smoothing)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> TextBatch:
        """Captions of a step, drawn from (seed, step)."""
        config, generator = self.config, step_generator(seed, step)
        mine = slice(part * size, (part + 1) * size)
        chosen = torch.randint(len(self.category), (size * parts,), generator=generator)[mine]
        draw = torch.rand(size * parts, generator=generator)[mine]
        noise = config.vector_noise * torch.randn(size * parts, 512, generator=generator)[mine]
        rows = [divmod(int(i), ENCODE_AT_ONCE) for i in chosen]
        longest = max(self.features[a].mask.shape[1] for a, _ in rows)
        pad = [longest - self.features[a].mask.shape[1] for a, _ in rows]
        tokens = torch.stack(
            [F.pad(self.features[a].tokens[b], (0, 0, 0, n)) for (a, b), n in zip(rows, pad, strict=True)]
        )
        mask = torch.stack([F.pad(self.features[a].mask[b], (0, n)) for (a, b), n in zip(rows, pad, strict=True)])
        vector = torch.stack([self.features[a].vector[b] for a, b in rows]) + noise
        # Only captions with English tokens can do without the vector.
        english = mask.any(dim=1)
        no_tokens, no_vector = draw < config.drop_tokens, english & (draw >= 1 - config.drop_vector)
        mask = mask & ~no_tokens[:, None]
        features = TextFeatures(
            tokens=tokens * mask[..., None], mask=mask, vector=torch.where(no_vector[:, None], 0.0, vector)
        )
        device = self.device
        return TextBatch(
            features=features.to(device),
            category=self.category[chosen].to(device),
            intensity=self.intensity[chosen].to(device),
            token=self.token[chosen].to(device),
        )

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        self.averaged("conditioner", weights).save_pretrained(folder / "text")
