"""Seven edits of one source: the shipped model, its fit of the face included, against a stock diffusers pipeline.

    make bench BENCH=edit OUT=dir

The peer is `diffusers.LDMSuperResolutionPipeline`, the stock latent pipeline whose U-Net, like ours, sees a source beside
the noise: a `UNet2DModel` of our widths (smaller: it has no condition; both counts are reported) on latents of the same size
and a `VQModel` of the same f. Its weights are random, which changes no time. It runs as users run it: one image per call, at
its default of 100 steps and at ours. Every row is the least of several runs in one process; ratios are peer / ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, UNet2DModel, VQModel

# From its own file: the package's name for it exists only where transformers is installed, which it does not need.
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion_superresolution import LDMSuperResolutionPipeline

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads, shipped_head
from omote.pipelines.rgbd import with_weights
from omote.rgbd.load import load_model
from omote.rgbd.model import EditSettings
from omote.types import Expression

PEER_STEPS = 100


def least(function: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of some runs, after one that warms up."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peer(channels: list[int], latent: int) -> LDMSuperResolutionPipeline:
    """A stock pipeline of the given U-Net widths on ``latent``² latents."""
    unet = UNet2DModel(
        sample_size=latent,
        in_channels=6,
        out_channels=3,
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * (len(channels) - 1)),
        up_block_types=(*["AttnUpBlock2D"] * (len(channels) - 1), "UpBlock2D"),
    )
    vqvae = VQModel(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=16,
    )
    pipeline = LDMSuperResolutionPipeline(vqvae=vqvae.eval(), unet=unet.eval(), scheduler=DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    config = PopulationConfig(split="test", num_images=1)
    person = draw_person(config, 0, population_heads(config.ict))
    source = next(iter(render_person(person, population_heads(config.ict))))[0]
    model = load_model(shipped_head(), backend="torch")
    wanted = [with_weights(Expression(category=c), 0) for c in CATEGORIES]
    one = least(lambda: model.edit(source, wanted, EditSettings(steps=1)), 5)
    four = least(lambda: model.edit(source, wanted, EditSettings(steps=4)), 3)
    unet = model.editor.unet
    stock = peer(list(unet.config.block_out_channels), model.editor.config.sample_size)
    image = torch.rand(1, 3, model.editor.config.sample_size, model.editor.config.sample_size)

    def stock_edits(steps: int) -> None:
        for _ in CATEGORIES:
            stock(image, num_inference_steps=steps, eta=1.0, output_type="np")

    stock_one, stock_four = least(lambda: stock_edits(1), 3), least(lambda: stock_edits(4), 2)
    stock_full = least(lambda: stock_edits(PEER_STEPS), 1)
    return {
        "edit/seven_s_at_1_step": one,
        "edit/seven_s_at_4_steps": four,
        "edit/parameters": sum(p.numel() for p in model.editor.parameters()),
        "edit/threads": torch.get_num_threads(),
        "peer/seven_s_at_1_step": stock_one,
        "peer/seven_s_at_4_steps": stock_four,
        f"peer/seven_s_at_{PEER_STEPS}_steps": stock_full,
        "peer/parameters": sum(p.numel() for p in stock.unet.parameters()),
        "ratio/at_1_step": stock_one / one,
        "ratio/at_4_steps": stock_four / four,
        "ratio/defaults": stock_full / one,
    }
