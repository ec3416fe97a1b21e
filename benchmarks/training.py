"""Training: images per second of ours against the stock loop of diffusers' examples, same network, in one run.

    make bench BENCH=training OUT=dir

The stock loop is that of diffusers' `examples/text_to_image/train_text_to_image.py` with a source image: a `DataLoader` of
pairs, both images encoded for every item, a timestep and noise per item, `add_noise`, one forward of the network, the mean
square, clipping, AdamW, through accelerate. The network, its condition (motion images are drawn for both), the batch size and the
threads are ours. Ours reads edits that `omote encode` made (`encode/images_per_s`; 2,400 persons x 8 images are 19,200 of them,
once for every run; `ratio/ours_and_encoding_over_stock_diffusers` counts that in, for the 130,000 images of `editor-cpu` and
`editor-cpu-flow`); `ours_not_encoded` makes its pairs at every step like the stock loop. The share of the peak counts the
network's forward and backward passes (`torch.utils.flop_counter`) against the fastest square float32 matmul of the same run.

Both loops run in float32 and in bfloat16: the stock one under accelerate's autocast, ours in what ``engine.precision=auto``
chooses here; `autoencoder-cpu`, a step of which has no stock counterpart, in float32 and in its own choice. What the processor
computes in is recorded (``processor/*``); ``ONEDNN_MAX_CPU_ISA=AVX512_CORE`` hides the rest from the convolutions. What limits a
step is in docs/performance.md.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from omote.datasets.cache import Shard
from omote.datasets.pairs import PairBatch, draw_pairs
from omote.datasets.population import PopulationConfig, make_population
from omote.engine.loop import optimiser_of
from omote.engine.precision import FORMATS, Choice, Precision, autocast, candidates, measure
from omote.engine.prefetch import batches
from omote.head.shipped import population_heads, shipped_head
from omote.recipes import RECIPES
from omote.rgbd.train.autoencoder import AutoencoderTask
from omote.rgbd.train.editor import EditorTask
from omote.rgbd.train.latent_cache import encode_population
from omote.rgbd.train.latent_pairs import encode_batch
from omote.rgbd.weights import SHIPPED_WEIGHTS

BATCH, STEPS, ROUNDS = 12, 3, 3
CPU, EXACT = torch.device("cpu"), Choice(precision="fp32", layout="contiguous")
PERSONS, IMAGES = 12, 8
# Of the release's two runs, and of the population that both read.
TRAINED, ENCODED = 130_000, 19_200


class Pairs(IterableDataset):
    """A source and a target at a time, as a dataset of examples has it."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards

    def __iter__(self) -> Iterator[PairBatch]:
        for index in range(10**9):
            yield draw_pairs(self.shards, [np.random.default_rng([0, index])], shipped_head(), targets_per_source=1)


def joined(pairs: list[PairBatch]) -> PairBatch:
    def cat(name: str) -> torch.Tensor:
        return torch.cat([getattr(p, name) for p in pairs])

    def images(name: str) -> object:
        first = getattr(pairs[0], name)
        return replace(first, **{k: torch.cat([getattr(getattr(p, name), k) for p in pairs]) for k in vars(first)})

    tensors = {k: cat(k) for k, v in vars(pairs[0]).items() if isinstance(v, torch.Tensor)}
    faces = tuple(face for p in pairs for face in p.faces)
    return replace(pairs[0], source=images("source"), target=images("target"), faces=faces, **tensors)


def stock(task: EditorTask, precision: Precision = "fp32") -> Callable[[], None]:
    accelerator, scheduler = Accelerator(), DDPMScheduler(prediction_type="v_prediction")
    editor = task.module.editor
    loader = DataLoader(Pairs(task.pairs.shards), batch_size=BATCH, collate_fn=joined)
    optimiser = torch.optim.AdamW(editor.parameters(), lr=1e-4)
    # accelerate's own loader wants batches that are containers of tensors.
    editor, optimiser = accelerator.prepare(editor, optimiser)
    batches = iter(loader)

    def step() -> None:
        pairs = next(batches)
        edits = encode_batch(task.autoencoder, pairs, kinds=task.kinds).with_motion()
        source, delta, condition = edits.source, edits.delta, edits.condition
        noise = torch.randn_like(delta)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(delta),))
        noisy = scheduler.add_noise(delta, noise, timesteps)
        signal = scheduler.alphas_cumprod[timesteps]
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        scale = (alpha + sigma).view(-1, 1, 1, 1)
        with autocast(CPU, precision):
            velocity = editor(noisy / scale, sigma / (alpha + sigma), source, condition)
        loss = F.mse_loss(velocity.float(), (noise - delta).float())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(editor.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def ours(task: EditorTask | AutoencoderTask, choice: Choice = EXACT) -> Callable[[], None]:
    """What `omote.engine.loop.train` does at a step; its averages included."""
    config = task.config.engine
    task.module.to(memory_format=FORMATS[choice.layout])  # type: ignore[call-overload]
    task.schedule(config.total_images // 2)
    optimiser, module = optimiser_of(task, config), task.module
    coming = batches(task, first_step=0, seed=0, size=config.batch_size, mine=[0], parts=1)
    average = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def step() -> None:
        with autocast(CPU, choice.precision):
            loss, _ = module(next(coming))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for key, value in module.state_dict().items():
                average[key].lerp_(value, 0.01) if value.is_floating_point() else average[key].copy_(value)

    return step


def images_per_s(step: Callable[[], None], batch: int) -> float:
    step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * batch / (time.perf_counter() - start)


def matmul_peak_flops(dtype: torch.dtype) -> float:
    a, b = torch.randn(2, 1536, 1536).to(dtype)
    best = 0.0
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 1536**3 / (time.perf_counter() - start))
    return best


def flops_per_image(task: EditorTask) -> int:
    batch = task.batch(0, 0, BATCH, 0, 1)
    with FlopCounterMode(display=False) as counter:
        task.module(batch)[0].backward()
    task.module.zero_grad(set_to_none=True)
    return counter.get_total_flops() // BATCH


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        list(
            make_population(
                PopulationConfig(num_images=IMAGES), population_heads(), runs / "population", num_persons=PERSONS
            )
        )
        recipe = replace(
            RECIPES["editor-cpu"](runs),
            autoencoder=SHIPPED_WEIGHTS / "autoencoder",
            start_from=SHIPPED_WEIGHTS / "editor",
        )
        task = EditorTask(recipe, population_heads())
        task.autoencoder.float()
        start = time.perf_counter()
        list(encode_population(recipe.population, task.autoencoder, shipped_head(), runs / "edits"))
        encode_rate = PERSONS * IMAGES / (time.perf_counter() - start)
        cached = replace(recipe, latents=runs / "edits")
        tasks = {name: EditorTask(config, population_heads()) for name, config in {
            "ours": cached, "ours_auto": cached, "ours_not_encoded": recipe,
            "stock_diffusers": recipe, "stock_diffusers_bf16": recipe,
        }.items()}  # fmt: skip
        for made in tasks.values():
            made.autoencoder.float()
            made.module.float()
        first_stage = RECIPES["autoencoder-cpu"](runs)
        stages = {n: AutoencoderTask(first_stage, population_heads()) for n in ("autoencoder", "autoencoder_auto")}
        flops = flops_per_image(tasks["ours"])
        choices = {n: measure(t, t.config.engine, candidates(t.config.engine, {}), CPU).best
                   for n, t in (("ours_auto", tasks["ours_auto"]), ("autoencoder_auto", stages["autoencoder_auto"]))}  # fmt: skip
        steps = {
            "ours": ours(tasks["ours"]),
            "ours_auto": ours(tasks["ours_auto"], choices["ours_auto"]),
            "ours_not_encoded": ours(tasks["ours_not_encoded"]),
            "stock_diffusers": stock(tasks["stock_diffusers"]),
            "stock_diffusers_bf16": stock(tasks["stock_diffusers_bf16"], "bf16"),
            "autoencoder": ours(stages["autoencoder"]),
            "autoencoder_auto": ours(stages["autoencoder_auto"], choices["autoencoder_auto"]),
        }
        size = {name: first_stage.engine.batch_size if name.startswith("autoencoder") else BATCH for name in steps}
        rates = [{name: images_per_s(step, size[name]) for name, step in steps.items()} for _ in range(ROUNDS)]
    best = {name: max(rate[name] for rate in rates) for name in steps}
    peak = {name: matmul_peak_flops(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    with_encoding = TRAINED / (TRAINED / best["ours_auto"] + ENCODED / encode_rate)
    return {
        **{f"{name}/images_per_s": rate for name, rate in best.items()},
        **{f"{name}/choice": str(choice) for name, choice in choices.items()},
        "encode/images_per_s": encode_rate,
        "ratio/ours_over_stock_diffusers": best["ours"] / best["stock_diffusers"],
        "ratio/ours_auto_over_stock_diffusers": best["ours_auto"] / best["stock_diffusers"],
        "ratio/ours_auto_over_stock_diffusers_bf16": best["ours_auto"] / best["stock_diffusers_bf16"],
        "ratio/ours_auto_and_encoding_over_stock_diffusers": with_encoding / best["stock_diffusers"],
        "ratio/ours_not_encoded_over_stock_diffusers": best["ours_not_encoded"] / best["stock_diffusers"],
        "ratio/ours_auto_over_ours": best["ours_auto"] / best["ours"],
        "ratio/autoencoder_auto_over_autoencoder": best["autoencoder_auto"] / best["autoencoder"],
        "share_of_fp32_peak/ours": best["ours"] * flops / peak["fp32"],
        "share_of_fp32_peak/stock_diffusers": best["stock_diffusers"] * flops / peak["fp32"],
        "share_of_bf16_peak/ours_auto": best["ours_auto"] * flops / peak["bf16"],
        "editor/gflops_per_image": flops / 1e9,
        **{f"matmul_{name}/gflops_per_s": value / 1e9 for name, value in peak.items()},
        "processor/vectors": torch.backends.cpu.get_cpu_capability(),
        "processor/avx512_bf16": str(torch.cpu._is_avx512_bf16_supported()),
        "processor/amx": str(torch.cpu._is_amx_tile_supported()),
        "processor/onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", "all"),
        "batch": BATCH,
        "threads": torch.get_num_threads(),
    }
