"""The original single-file layout of Stable Diffusion 1.x and 2.x: names of tensors, and what their shapes say of the networks.

diffusers' names are turned into the original ones, those of Rombach et al.'s ``ldm`` package. Shapes give all of the networks'
configs but the number of attention heads, which the version decides: eight heads in 1.x, heads of 64 channels in 2.x.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omote.errors import CheckpointError

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT, OPEN_CLIP_TEXT = "cond_stage_model.transformer.", "cond_stage_model.model."
SCALING_FACTOR = 0.18215
Shapes = Mapping[str, tuple[int, ...]]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# Names of the VAE's attention in folders written before diffusers 0.15.
OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def original_unet_name(name: str, per_block: int, attended_up: set[int]) -> str:
    """The original name of a U-Net's tensor.

    Args:
        name: name in diffusers.
        per_block: residual blocks per resolution on the way down.
        attended_up: numbers of the blocks on the way up that have attention.
    """
    for own, theirs in UNET_ENDS.items():
        if name.startswith(f"{own}."):
            return theirs + name[len(own) :]
    step = per_block + 1
    if found := re.match(r"mid_block\.resnets\.(\d)\.(\w+)\.(.*)", name):
        return f"middle_block.{2 * int(found[1])}.{RESNET[found[2]]}.{found[3]}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if found is None:
        raise KeyError(name)
    way, block, kind, item, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    place = f"input_blocks.{1 + block * step + item}" if way == "down" else f"output_blocks.{block * step + item}"
    match kind:
        case "resnets":
            part, _, end = rest.partition(".")
            return f"{place}.0.{RESNET[part]}.{end}"
        case "attentions":
            return f"{place}.1.{rest}"
        case "downsamplers":
            return f"input_blocks.{(block + 1) * step}.0.{rest.replace('conv.', 'op.', 1)}"
        case _:
            return f"output_blocks.{block * step + per_block}.{2 if block in attended_up else 1}.{rest}"


def original_vae_name(name: str, levels: int) -> str:
    """The original name of a VAE's tensor.

    Args:
        name: name in diffusers.
        levels: number of resolutions.
    """
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if found := re.match(r"(.*)mid_block\.attentions\.0\.(group_norm|to_q|to_k|to_v|to_out\.0)(.*)", name):
        return f"{found[1]}mid.attn_1.{VAE_ATTENTION[found[2]]}{found[3]}"
    return name


def modern_vae_name(name: str) -> str:
    """The present name of a VAE's tensor in a diffusers folder."""
    return re.sub(
        r"(attentions\.0\.)(query|key|value|proj_attn)\.", lambda m: f"{m[1]}{OLD_VAE_ATTENTION[m[2]]}.", name
    )


def attended_up(names: Mapping[str, Any]) -> set[int]:
    """Numbers of the blocks on the way up that have attention, from diffusers' names."""
    return {int(found[1]) for name in names if (found := re.match(r"up_blocks\.(\d+)\.attentions", name))}


def version_of(shapes: Shapes, origin: object) -> int:
    """1 or 2: the version of Stable Diffusion that a single file is of.

    Raises:
        CheckpointError: the file holds something else.
    """
    if any(name.startswith(OPEN_CLIP_TEXT) for name in shapes):
        return 2
    if any(name.startswith(TEXT) for name in shapes):
        return 1
    xl = any(name.startswith("conditioner.embedders.") for name in shapes)
    got = "Stable Diffusion XL" if xl else f"tensors such as {min(shapes, default='none')!r}"
    raise CheckpointError(f"{origin}: expected a single file of Stable Diffusion 1.x or 2.x, got {got[:100]}")


def configs_of(shapes: Shapes, version: int) -> dict[str, dict[str, Any]]:
    """Configs of U-Net, VAE and text encoder, for diffusers and transformers, from a single file's shapes.

    Raises:
        KeyError: a tensor is missing that every such network has.
    """
    return {
        "unet": unet_config({k.removeprefix(UNET): v for k, v in shapes.items() if k.startswith(UNET)}, version),
        "vae": vae_config({k.removeprefix(VAE): v for k, v in shapes.items() if k.startswith(VAE)}),
        "text_encoder": text_config(shapes, version),
    }


def unet_config(shapes: Shapes, version: int) -> dict[str, Any]:
    """Config of a ``UNet2DConditionModel`` from original names and shapes."""
    ops = sorted(int(name.split(".")[1]) for name in shapes if re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", name))
    blocks = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("input_blocks."))
    step = ops[0] if ops else blocks
    firsts = range(1, blocks, step)
    widths = tuple(shapes[f"input_blocks.{i}.0.out_layers.3.weight"][0] for i in firsts)
    attended = [f"input_blocks.{i}.1.proj_in.weight" in shapes for i in firsts]
    middle = "middle_block.1."
    config: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": step - 1,
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attended),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attended)),
        "cross_attention_dim": shapes[f"{middle}transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes[f"{middle}proj_in.weight"]) == 2,
        # diffusers calls the number of heads attention_head_dim.
        "attention_head_dim": 8 if version == 1 else tuple(max(1, width // 64) for width in widths),
        "sample_size": 64,
    }
    if "label_emb.0.0.weight" in shapes:
        width = shapes["label_emb.0.0.weight"][1]
        config |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": width}
    return config


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Config of an ``AutoencoderKL`` from original names and shapes."""
    levels = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.down."))
    per_block = 1 + max(int(name.split(".")[4]) for name in shapes if name.startswith("encoder.down.0.block."))
    return {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": tuple(shapes[f"encoder.down.{i}.block.0.conv2.weight"][0] for i in range(levels)),
        "layers_per_block": per_block,
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "scaling_factor": SCALING_FACTOR,
        "sample_size": 512,
    }


def text_config(shapes: Shapes, version: int) -> dict[str, Any]:
    """Config of a ``CLIPTextModel`` from a single file's names and shapes."""
    if version == 1:
        start = f"{TEXT}text_model."
        own = {k.removeprefix(start): v for k, v in shapes.items() if k.startswith(start)} or {
            k.removeprefix(TEXT): v for k, v in shapes.items() if k.startswith(TEXT)
        }
        words, positions, inner = (
            own[name]
            for name in (
                "embeddings.token_embedding.weight",
                "embeddings.position_embedding.weight",
                "encoder.layers.0.mlp.fc1.weight",
            )
        )
        layers = len({name.split(".")[2] for name in own if name.startswith("encoder.layers.")})
    else:
        own = {k.removeprefix(OPEN_CLIP_TEXT): v for k, v in shapes.items() if k.startswith(OPEN_CLIP_TEXT)}
        words, positions, inner = (
            own[name]
            for name in (
                "token_embedding.weight",
                "positional_embedding",
                "transformer.resblocks.0.mlp.c_fc.weight",
            )
        )
        # What Stable Diffusion 2.x reads is the output of the last block but one.
        layers = len({name.split(".")[2] for name in own if name.startswith("transformer.resblocks.")}) - 1

    return {
        "vocab_size": words[0],
        "hidden_size": words[1],
        "max_position_embeddings": positions[0],
        "intermediate_size": inner[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, words[1] // 64),
        "hidden_act": "quick_gelu" if version == 1 else "gelu",
        "projection_dim": words[1],
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    }
