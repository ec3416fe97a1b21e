"""From a recipe's config to a running training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omote.training.autoencoder import AutoencoderConfig, AutoencoderTask
from omote.training.decoder import DecoderConfig, DecoderTask
from omote.training.editor import EditorConfig, EditorTask
from omote.training.engine import StepReport, Task, train

RecipeConfig = AutoencoderConfig | EditorConfig | DecoderConfig


def task_of(config: RecipeConfig) -> Task:
    """The task that a config describes."""
    match config:
        case AutoencoderConfig():
            return AutoencoderTask(config)
        case EditorConfig():
            return EditorTask(config)
        case DecoderConfig():
            return DecoderTask(config)


def run_recipe(config: RecipeConfig, run: Path) -> Iterator[StepReport]:
    """Train a recipe in the folder ``run``, resuming what is there; the export lies in ``run/export``."""
    return train(task_of(config), config.engine, run, config)
