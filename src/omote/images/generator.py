"""A denoiser of image latents: unconditional, by class, or by text (Rombach et al., CVPR 2022, §3.2, §3.3 and appendix E).

The unconditional network is the paper's U-Net with self-attention. A conditional one has transformer blocks at each attended
resolution, whose cross-attention reads the output of τ_θ: a learned token per class, or the states of a transformer over the
text's tokens that is trained with the U-Net (appendix E.2.1). The tokens come from a tokenizer file, or are the text's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import guided, initial_noise, path_scale
from omote.diffusion.objective import Prediction, velocity_of
from omote.diffusion.sampling import sampled
from omote.diffusion.settings import SamplerName
from omote.errors import ConfigError
from omote.nets.precision import attend_in_float32

Conditioning = Literal["none", "class", "text"]
NUM_BYTES = 256
TEXT_HEADS, TEXT_HEAD_CHANNELS = 8, 64
GROUPS = 32


class TextTransformer(nn.Module):
    """τ_θ of text: tokens → states. Padding is attended to as well, as in the paper.

    Args:
        vocabulary: number of token ids; id 0 is padding.
        width: width of the states.
        layers: number of transformer blocks.
        max_tokens: maximum number of tokens of a text.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, max_tokens: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(max_tokens, width))
        self.layers = nn.ModuleList(
            BasicTransformerBlock(width, TEXT_HEADS, TEXT_HEAD_CHANNELS, activation_fn="gelu") for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """States of token ids."""
        h = self.words(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            h = layer(h)
        out: Tensor = self.norm(h)
        return out


class ImageGenerator(ModelMixin, ConfigMixin):
    """Denoiser of scaled latents.

    Args:
        sample_size: side of the latents in latent pixels.
        latent_channels: number of channels of the latent.
        channels: width of the U-Net at each resolution.
        attended: whether each resolution has attention.
        layers_per_block: number of residual blocks per resolution.
        head_channels: number of channels of an attention head; None for one head.
        num_heads: number of attention heads of a conditional U-Net without ``head_channels``.
        condition: kind of the condition.
        classes: names of the classes, if the condition is a class.
        context_width: width of the tokens for cross-attention.
        transformer_depth: number of transformer blocks per attention layer.
        text_layers: number of transformer blocks of τ_θ for text.
        vocabulary: number of token ids of a text.
        max_tokens: maximum number of tokens of a text.
        residual_resampling: whether an unconditional U-Net resamples by residual blocks and has features scaled and shifted by
            the time embedding (Dhariwal & Nichol, "Diffusion Models Beat GANs", NeurIPS 2021, §3).
        prediction: quantity that the U-Net predicts (`omote.diffusion.objective`); `forward` always returns the velocity.
    """

    @register_to_config
    def __init__(
        self,
        *,
        sample_size: int,
        latent_channels: int,
        channels: Sequence[int],
        attended: Sequence[bool],
        layers_per_block: int = 2,
        head_channels: int | None = 32,
        num_heads: int = 1,
        condition: Conditioning = "none",
        classes: Sequence[str] = (),
        context_width: int = 512,
        transformer_depth: int = 1,
        text_layers: int = 0,
        vocabulary: int = NUM_BYTES + 1,
        max_tokens: int = 77,
        residual_resampling: bool = False,
        prediction: Prediction = "epsilon",
    ) -> None:
        super().__init__()
        common = {
            "sample_size": sample_size,
            "in_channels": latent_channels,
            "out_channels": latent_channels,
            "block_out_channels": tuple(channels),
            "layers_per_block": layers_per_block,
            "norm_num_groups": min(GROUPS, *channels),
        }

        if condition == "none":
            plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
            down, up = plain if residual_resampling else ("DownBlock2D", "UpBlock2D")
            sampling = "resnet" if residual_resampling else "conv"
            self.unet = UNet2DModel(
                **common,
                down_block_types=tuple("AttnDownBlock2D" if a else down for a in attended),
                up_block_types=tuple("AttnUpBlock2D" if a else up for a in reversed(attended)),
                downsample_type=sampling,
                upsample_type=sampling,
                resnet_time_scale_shift="scale_shift" if residual_resampling else "default",
                attention_head_dim=head_channels,
                # As in the paper's code: cosines come before sines in the time embedding, and frequencies are not shifted.
                flip_sin_to_cos=True,
                freq_shift=0,
            )
        else:
            heads = [num_heads if head_channels is None else width // head_channels for width in channels]
            self.unet = UNet2DConditionModel(
                **common,
                down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attended),
                up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attended)),
                # diffusers calls the number of heads attention_head_dim.
                attention_head_dim=tuple(heads),
                cross_attention_dim=context_width,
                transformer_layers_per_block=transformer_depth,
            )

        # The last embedding is the null token.
        self.label = nn.Embedding(len(classes) + 1, context_width) if condition == "class" else None
        self.text = TextTransformer(vocabulary, context_width, text_layers, max_tokens) if condition == "text" else None
        attend_in_float32(self)

    @property
    def null_class(self) -> int:
        """Index of the null token, which stands for no class in dropout and guidance."""
        return len(self.config.classes)

    def context(self, label: Int[Tensor, "b"], tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b m c"] | None:
        """Tokens for cross-attention; None for an unconditional network.

        Args:
            label: index into the classes, or `null_class`.
            tokens: token ids of the text; all zeros for the null text.
        """
        if self.label is not None:
            return self.label(label)[:, None]
        return None if self.text is None else self.text(tokens)

    def forward(
        self, z_t: Float[Tensor, "b d h w"], t: Float[Tensor, "b"], label: Int[Tensor, "b"], tokens: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b d h w"]:
        """The flow's velocity at time t.

        Args:
            z_t: scaled latents at time t (noise at t = 1, clean at t = 0).
            t: times in [0, 1].
            label: class indices as in `context`; read if the condition is a class.
            tokens: token ids as in `context`; read if the condition is text.
        """
        return self._velocity(z_t, t, self.context(label, tokens))

    def _velocity(self, z_t: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        x = z_t / path_scale(t).view(-1, 1, 1, 1)
        conditions = {} if context is None else {"encoder_hidden_states": context}
        out = self.unet(x, 1000 * t, **conditions, return_dict=False)[0]
        # In float32 even under autocast: converting ε to the velocity divides by the small remaining share of the image.
        return velocity_of(self.config.prediction, out.float(), z_t, t)

    @torch.no_grad()
    def draw(
        self,
        label: Int[Tensor, "b"],
        tokens: Int[Tensor, "b n"],
        seeds: Sequence[int],
        *,
        steps: int,
        sampler: SamplerName = "ddim",
        guidance_scale: float = 1.0,
    ) -> Float[Tensor, "b d h w"]:
        """Sample scaled latents.

        Args:
            label: class indices, as in `context`.
            tokens: token ids of the texts, as in `context`.
            seeds: seed of each sample's noise; the size of a batch never changes a sample.
            steps: number of sampler steps.
            sampler: name of the sampler.
            guidance_scale: scale of classifier-free guidance; 1 means none.
        """
        config: Any = self.config
        shape = (config.latent_channels, config.sample_size, config.sample_size)
        noise = initial_noise(shape, list(seeds)).to(label.device)
        wanted = self.context(label, tokens)
        null = self.context(torch.full_like(label, self.null_class), torch.zeros_like(tokens))
        velocity = guided(
            lambda z, t: self._velocity(z, t, wanted), lambda z, t: self._velocity(z, t, null), guidance_scale
        )
        z = noise
        for step in sampled(velocity, noise, steps, sampler, seeds=seeds):
            z = step.z
        return z


class Tokenizer:
    """Text → token ids from 1 on; id 0 is padding.

    Args:
        file: ``tokenizer.json`` of the tokenizers library, or None for the text's bytes in UTF-8.

    Raises:
        ConfigError: the file is missing or not a tokenizer.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._tokenizer: Any = None
        if file is not None:
            from tokenizers import Tokenizer as Library

            try:
                self._tokenizer = Library.from_file(str(file))
            # The tokenizers library raises plain Exception.
            except Exception as error:
                raise ConfigError(f"{file}: expected a tokenizer.json ({str(error).splitlines()[0]})") from None

    @property
    def vocabulary(self) -> int:
        """Number of token ids, including the padding."""
        return 1 + (NUM_BYTES if self._tokenizer is None else self._tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str], max_tokens: int) -> Int[Tensor, "b n"]:
        """Token ids, cut and padded to ``max_tokens``."""
        found = [
            list(text.encode()) if self._tokenizer is None else self._tokenizer.encode(text).ids if text else []
            for text in texts
        ]
        rows = [torch.tensor(ids[:max_tokens], dtype=torch.long) + 1 for ids in found]
        return torch.stack([F.pad(row, (0, max_tokens - len(row))) for row in rows])
