"""Running a recipe: from its config to the training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from omote.completion.train import CompletionConfig, CompletionTask
from omote.completion.train_diffusion import DiffusionCompletionConfig, DiffusionCompletionTask
from omote.datasets.population import PopulationConfig
from omote.engine.estimate import Estimate, estimate
from omote.engine.log import StepReport
from omote.engine.loop import Task, train
from omote.head.shipped import population_heads
from omote.images.generator import Tokenizer
from omote.images.train_first_stage import ImageAutoencoderConfig, ImageAutoencoderTask
from omote.images.train_generator import ImageGeneratorConfig, ImageGeneratorTask
from omote.multiview.train_denoiser import ViewDenoiserConfig, ViewDenoiserTask
from omote.multiview.train_first_stage import ViewFirstStageConfig, ViewFirstStageTask
from omote.multiview.train_stable_diffusion import StableDiffusionConfig, StableDiffusionTask
from omote.multiview.train_to_3d import ViewsToMeshConfig, ViewsToMeshTask
from omote.multiview.train_voxels import VoxelEncoderConfig, VoxelEncoderTask
from omote.rgbd.train.autoencoder import AutoencoderConfig, AutoencoderTask
from omote.rgbd.train.decoder import DecoderConfig, DecoderTask
from omote.rgbd.train.distil import DistilConfig, DistilTask
from omote.rgbd.train.editor import EditorConfig, EditorTask
from omote.rgbd.train.expression_prior import ExpressionPriorConfig, ExpressionPriorTask
from omote.rgbd.train.text import TextConfig, TextTask

RecipeConfig = (
    AutoencoderConfig
    | EditorConfig
    | DecoderConfig
    | DistilConfig
    | TextConfig
    | ExpressionPriorConfig
    | ImageAutoencoderConfig
    | ImageGeneratorConfig
    | ViewFirstStageConfig
    | ViewsToMeshConfig
    | VoxelEncoderConfig
    | ViewDenoiserConfig
    | StableDiffusionConfig
    | CompletionConfig
    | DiffusionCompletionConfig
)


def task_of(config: RecipeConfig) -> Task:
    """The task that a config describes."""
    population = getattr(config, "population", None)
    ict = population.ict if isinstance(population, PopulationConfig) else getattr(config, "ict", None)
    heads = population_heads(ict)
    match config:
        case AutoencoderConfig():
            return AutoencoderTask(config, heads)
        case EditorConfig():
            return EditorTask(config, heads)
        case DecoderConfig():
            return DecoderTask(config, heads)
        case DistilConfig():
            return DistilTask(config, heads)
        case TextConfig():
            return TextTask(config)
        case ExpressionPriorConfig():
            return ExpressionPriorTask(config)
        case ImageAutoencoderConfig():
            return ImageAutoencoderTask(config)
        case ImageGeneratorConfig():
            return ImageGeneratorTask(config)
        case ViewFirstStageConfig():
            return ViewFirstStageTask(config, heads)
        case ViewsToMeshConfig():
            return ViewsToMeshTask(config, heads)
        case VoxelEncoderConfig():
            return VoxelEncoderTask(config, heads)
        case ViewDenoiserConfig():
            return ViewDenoiserTask(config, heads)
        case StableDiffusionConfig():
            return StableDiffusionTask(config, heads)
        case CompletionConfig():
            return CompletionTask(config, heads)
        case DiffusionCompletionConfig():
            return DiffusionCompletionTask(config, heads)


def parameters_of(config: RecipeConfig) -> int | None:
    """Number of parameters of a network that its config describes without data; None for other networks."""
    if not isinstance(config, ImageAutoencoderConfig | ImageGeneratorConfig):
        return None
    with torch.device("meta"):
        if isinstance(config, ImageAutoencoderConfig):
            network = config.network()
        else:
            classes = tuple(str(i) for i in range(config.num_classes))
            network = config.network(classes, Tokenizer(config.tokenizer).vocabulary)
    return sum(p.numel() for p in network.parameters())


def estimate_recipe(config: RecipeConfig) -> Estimate:
    """Estimate of a recipe on this machine, from a few steps in memory."""
    return estimate(task_of(config), config.engine)


def run_recipe(config: RecipeConfig, run: Path) -> Iterator[StepReport]:
    """Train a recipe in the folder ``run``, resuming an existing run; the export is written to ``run/export``."""
    task = task_of(config)
    if isinstance(task, EditorTask):
        task.keep_first_stage()
    return train(task, config.engine, run, config)
