"""A narrow checkpoint as a folder of diffusers and as a single file."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from narrow_sd import narrow_folder, narrow_sd
from omote.images.stable_diffusion.checkpoint import save_single_file
from omote.images.stable_diffusion.model import StableDiffusion


@pytest.fixture(scope="session")
def model() -> StableDiffusion:
    return narrow_sd()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return narrow_folder(tmp_path_factory.mktemp("sd") / "folder")


@pytest.fixture(scope="session")
def single_file(model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sd") / "one.safetensors"
    save_single_file(model, path, dtype=torch.float32)
    return path
