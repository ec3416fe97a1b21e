"""The commands as functions of the same names; heavy libraries are imported by the calls that need them."""

from omote.api.avatars import avatar, demo, several_avatars
from omote.api.batches import BatchResult, BatchSettings, batch
from omote.api.datasets import RenderedDataset, data, render_dataset
from omote.api.facts import info
from omote.api.fusion import FusedScan, FuseSettings, fuse
from omote.api.images import GenerateSettings, generate, pack
from omote.api.populations import PopulationSettings, population
from omote.api.reconstruction import Reconstruction, ReconstructionSettings, reconstruct
from omote.api.reports import report
from omote.api.samples import SampledPeople, SampleSettings, sample
from omote.api.scans import FitSettings, FittedHead, MadeMesh, MeshOutputs, RenderSettings, fit, read, render
from omote.api.studies import evaluate, study
from omote.api.tools import tool
from omote.api.trainings import count_parameters, encode, estimate_training, recipe, train
from omote.files import check_folder
from omote.formats.frame_write import save_rgbd
from omote.pipelines.result import AvatarOutputs, AvatarResult
from omote.pipelines.settings import AvatarSettings
from omote.shards.mapping import Execution

__all__ = [
    "AvatarOutputs",
    "AvatarResult",
    "AvatarSettings",
    "BatchResult",
    "BatchSettings",
    "Execution",
    "FitSettings",
    "FittedHead",
    "FuseSettings",
    "FusedScan",
    "GenerateSettings",
    "MadeMesh",
    "MeshOutputs",
    "PopulationSettings",
    "Reconstruction",
    "ReconstructionSettings",
    "RenderSettings",
    "RenderedDataset",
    "SampleSettings",
    "SampledPeople",
    "avatar",
    "batch",
    "check_folder",
    "count_parameters",
    "data",
    "demo",
    "encode",
    "estimate_training",
    "evaluate",
    "fit",
    "fuse",
    "generate",
    "info",
    "pack",
    "population",
    "read",
    "recipe",
    "reconstruct",
    "render",
    "render_dataset",
    "report",
    "sample",
    "save_rgbd",
    "several_avatars",
    "study",
    "tool",
    "train",
]
