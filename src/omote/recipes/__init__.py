"""Recipes: functions that return a complete typed config; a variant is a function plus two lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omote.recipes.cpu import autoencoder_cpu, decoder_cpu, decoder_cpu_polish, editor_cpu, editor_cpu_flow, text_cpu
from omote.recipes.first_stage import FIRST_STAGES
from omote.recipes.tiny import autoencoder_tiny, decoder_tiny, editor_tiny, text_tiny
from omote.training.run import RecipeConfig

RECIPES: dict[str, Callable[[Path], RecipeConfig]] = {
    "autoencoder-tiny": autoencoder_tiny,
    "editor-tiny": editor_tiny,
    "decoder-tiny": decoder_tiny,
    "autoencoder-cpu": autoencoder_cpu,
    "editor-cpu": editor_cpu,
    "editor-cpu-flow": editor_cpu_flow,
    "decoder-cpu": decoder_cpu,
    "decoder-cpu-polish": decoder_cpu_polish,
    "text-cpu": text_cpu,
    "text-tiny": text_tiny,
    **FIRST_STAGES,
}
