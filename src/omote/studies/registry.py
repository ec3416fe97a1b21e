"""Every suite and study, with an import and a line each. This imports their options only, which is fast."""

from __future__ import annotations

from omote.studies.avatars import AvatarSuite
from omote.studies.base import Study
from omote.studies.camera import Cameras
from omote.studies.candidates import Candidates
from omote.studies.cross_model import CrossModel
from omote.studies.data_size import DataSize
from omote.studies.diffusion import WhereDiffusionPays
from omote.studies.effect_of_f.study import EffectOfF
from omote.studies.frames import Frames
from omote.studies.guidance import Guidance
from omote.studies.image_sets import ImageSuite
from omote.studies.intensity import Intensity
from omote.studies.missing_depth import MissingDepth
from omote.studies.source_noise import SourceNoise
from omote.studies.stable_diffusion import StableDiffusionStudy
from omote.studies.suites import (
    EditorSuite,
    FirstStageSuite,
    JudgeSuite,
    PopulationSuite,
    QuickSuite,
    ReleaseSuite,
    SamplerSuite,
    ScanSuite,
    TextSuite,
)
from omote.studies.verification import Verification
from omote.studies.views_to_mesh import ViewsToMeshSuite

# `omote evaluate NAME`
SUITES: list[type[Study]] = [
    AvatarSuite,
    ReleaseSuite,
    QuickSuite,
    EditorSuite,
    SamplerSuite,
    TextSuite,
    ScanSuite,
    FirstStageSuite,
    JudgeSuite,
    PopulationSuite,
    ImageSuite,
    ViewsToMeshSuite,
]
# `omote study NAME`
STUDIES: list[type[Study]] = [
    EffectOfF,
    Guidance,
    Cameras,
    Intensity,
    SourceNoise,
    WhereDiffusionPays,
    DataSize,
    CrossModel,
    Verification,
    Candidates,
    StableDiffusionStudy,
    MissingDepth,
    Frames,
]
