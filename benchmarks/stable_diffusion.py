"""Stable Diffusion 1.5 at its real size, with random weights: loading, a step of four views, a training step with LoRA.

    make bench BENCH=stable_diffusion OUT=dir

A U-Net of 859.5 M parameters is written as float16 and loaded by `omote.images.stable_diffusion.checkpoint.load_unet`, with the
resident memory before and after. ``time_s/step_*`` is a forward pass of four views of `LATENT`² latents with attention over
them; ``time_s/train_lora`` is a forward and backward pass of one set of four views through low-rank changes of rank 16, with
gradient checkpointing, and the optimiser's step. The text has 1.5's width. Peak memory is that of the whole process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from omote.geometry.rig import Rig, flattened
from omote.images.stable_diffusion.checkpoint import load_unet, open_checkpoint
from omote.images.stable_diffusion.extend import extended, new_parts
from omote.images.stable_diffusion.lora import LowRank
from omote.memory import peak_memory_mb

LATENT, VIEWS, RANK = 32, 4, 16
CONFIG = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}


def write_random(folder: Path) -> int:
    """A folder with a random U-Net in float16, and the other files of a checkpoint."""
    torch.manual_seed(0)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CONFIG)
    unet = unet.to(torch.float16).to_empty(device="cpu")
    for weight in unet.parameters():
        nn.init.normal_(weight, std=0.02)
    unet.save_pretrained(folder / "unet", variant="fp16")
    for part in ("vae", "text_encoder"):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("{}")
    return sum(p.numel() for p in unet.parameters())


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def run() -> dict[str, float | int | str]:
    out: dict[str, float | int | str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out["count/parameters"] = write_random(folder)
        file = next((folder / "unet").glob("*.safetensors"))
        out["size_mb/file_fp16"] = file.stat().st_size / 2**20
        before = resident_mb()
        held: list[nn.Module] = []
        out["time_s/load"] = seconds(lambda: held.append(load_unet(open_checkpoint(folder))))
        out["memory_mb/load"] = resident_mb() - before
    stock = held.pop()
    unet = extended(stock, num_views=VIEWS)
    del stock
    rig = Rig(yaw_deg=(0.0, 40.0, -40.0, 0.0), pitch_deg=(0.0, 0.0, 0.0, 25.0))
    cameras = torch.from_numpy(flattened(rig.cameras(64)))
    x, context = torch.randn(VIEWS, 4, LATENT, LATENT), torch.randn(VIEWS, 77, 768)

    def forward() -> Tensor:
        made: Tensor = unet(x, 500, encoder_hidden_states=context, class_labels=cameras).sample
        return made

    with torch.no_grad():
        out[f"time_s/step_{VIEWS}_views_{LATENT}"] = seconds(forward)
    unet.requires_grad_(False).train()
    unet.enable_gradient_checkpointing()
    lora = LowRank(unet, RANK)
    parts = nn.ModuleDict(new_parts(unet)).requires_grad_(True)
    trained = [*lora.parameters(), *parts.parameters()]
    out["count/parameters_trained"] = sum(p.numel() for p in trained)
    optimiser = torch.optim.AdamW(trained, lr=1e-4)

    def train() -> None:
        (forward() - torch.randn_like(x)).square().mean().backward()
        optimiser.step()

    out["time_s/train_lora"] = seconds(train)
    out["memory_mb/peak_process"] = peak_memory_mb()
    return out
