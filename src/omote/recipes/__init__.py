"""Recipes: functions that return a complete typed config; a variant is a function plus two lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omote.recipes.completion import COMPLETION
from omote.recipes.cpu import (
    autoencoder_cpu,
    candidate3_cpu,
    candidate3_cpu_stage,
    decoder_cpu,
    decoder_cpu_draw,
    decoder_cpu_polish,
    editor_cpu,
    editor_cpu_conditions,
    editor_cpu_draw,
    editor_cpu_few,
    editor_cpu_flow,
    editor_cpu_pixel,
    editor_cpu_regression,
    expressions_cpu,
    text_cpu,
)
from omote.recipes.first_stage import FIRST_STAGES
from omote.recipes.gpu import GPU
from omote.recipes.multiview import MULTIVIEW
from omote.recipes.paper import PAPER
from omote.recipes.run import RecipeConfig
from omote.recipes.stable_diffusion import STABLE_DIFFUSION
from omote.recipes.tiny import (
    autoencoder_tiny,
    decoder_tiny,
    decoder_tiny_draw,
    editor_tiny,
    editor_tiny_conditions,
    expressions_tiny,
    few_tiny,
    text_tiny,
)

RECIPES: dict[str, Callable[[Path], RecipeConfig]] = {
    "autoencoder-tiny": autoencoder_tiny,
    "editor-tiny": editor_tiny,
    "editor-tiny-conditions": editor_tiny_conditions,
    "few-tiny": few_tiny,
    "decoder-tiny": decoder_tiny,
    "decoder-tiny-draw": decoder_tiny_draw,
    "autoencoder-cpu": autoencoder_cpu,
    "editor-cpu": editor_cpu,
    "candidate3-cpu-stage": candidate3_cpu_stage,
    "candidate3-cpu": candidate3_cpu,
    "editor-cpu-flow": editor_cpu_flow,
    "editor-cpu-regression": editor_cpu_regression,
    "editor-cpu-pixel": editor_cpu_pixel,
    "editor-cpu-few": editor_cpu_few,
    "editor-cpu-conditions": editor_cpu_conditions,
    "editor-cpu-draw": editor_cpu_draw,
    "decoder-cpu": decoder_cpu,
    "decoder-cpu-polish": decoder_cpu_polish,
    "decoder-cpu-draw": decoder_cpu_draw,
    "expressions-cpu": expressions_cpu,
    "expressions-tiny": expressions_tiny,
    "text-cpu": text_cpu,
    "text-tiny": text_tiny,
    **FIRST_STAGES,
    **GPU,
    **PAPER,
    **MULTIVIEW,
    **COMPLETION,
    **STABLE_DIFFUSION,
}
