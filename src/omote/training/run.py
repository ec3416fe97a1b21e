"""From a recipe's config to a running training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omote.training.autoencoder import AutoencoderConfig, AutoencoderTask
from omote.training.decoder import DecoderConfig, DecoderTask
from omote.training.editor import EditorConfig, EditorTask
from omote.training.engine import Task, train
from omote.training.estimate import Estimate, estimate
from omote.training.log import StepReport
from omote.training.text import TextConfig, TextTask

RecipeConfig = AutoencoderConfig | EditorConfig | DecoderConfig | TextConfig


def task_of(config: RecipeConfig) -> Task:
    """The task that a config describes."""
    match config:
        case AutoencoderConfig():
            return AutoencoderTask(config)
        case EditorConfig():
            return EditorTask(config)
        case DecoderConfig():
            return DecoderTask(config)
        case TextConfig():
            return TextTask(config)


def estimate_recipe(config: RecipeConfig) -> Estimate:
    """What a recipe will take on this machine; a few steps are taken in memory."""
    return estimate(task_of(config), config.engine)


def run_recipe(config: RecipeConfig, run: Path) -> Iterator[StepReport]:
    """Train a recipe in the folder ``run``, resuming what is there; the export lies in ``run/export``."""
    return train(task_of(config), config.engine, run, config)
