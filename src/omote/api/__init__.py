"""What the commands do, as functions of the same names; heavy libraries are imported by the calls that need them."""

from omote.api.avatars import AvatarMade, avatar, demo
from omote.api.datasets import RenderedDataset, data, render_dataset
from omote.api.evaluations import evaluate
from omote.api.facts import info
from omote.api.frames import save_rgbd
from omote.api.outputs import AvatarOutputs, FitOutputs, check_folder
from omote.api.populations import population
from omote.api.reconstruction import Reconstruction, reconstruct
from omote.api.reports import report
from omote.api.scans import FitMade, fit, read, render
from omote.api.studies import study
from omote.api.trainings import estimate_training, recipe, train

__all__ = [
    "AvatarMade",
    "AvatarOutputs",
    "FitMade",
    "FitOutputs",
    "Reconstruction",
    "RenderedDataset",
    "avatar",
    "check_folder",
    "data",
    "demo",
    "estimate_training",
    "evaluate",
    "fit",
    "info",
    "population",
    "read",
    "recipe",
    "reconstruct",
    "render",
    "render_dataset",
    "report",
    "save_rgbd",
    "study",
    "train",
]
