"""Every recipe of the release trains in bf16 and channels-last, with float32 weights and a loss near float32's."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from image_folders import make_images
from omote.images.packed import pack_images
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe

pytestmark = pytest.mark.early

FACES = ["autoencoder-tiny", "editor-tiny", "editor-tiny-conditions", "few-tiny", "decoder-tiny", "decoder-tiny-draw",
         "expressions-tiny"]  # fmt: skip


def losses(recipe, run):
    """Of two steps, the second with weights that the first has changed, in float32 and in bf16."""
    out = []
    for precision, layout in (("fp32", "contiguous"), ("bf16", "channels_last")):
        # A preview takes as long as a step: that of float32 is seen by other tests.
        grid_images = 0 if precision == "fp32" else recipe.engine.grid_images
        engine = replace(
            recipe.engine, total_images=16, precision=precision, memory_layout=layout, grid_images=grid_images
        )
        reports = list(run_recipe(replace(recipe, engine=engine), run / precision))
        out.append([report.metrics["loss"] for report in reports])
        weights = load_file(run / precision / "checkpoint/weights.safetensors")
        assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
    return out


@pytest.mark.parametrize("name", FACES)
def test_a_face_recipe(runs, tmp_path, name):
    exact, half = losses(RECIPES[name](runs), tmp_path)
    assert half == pytest.approx(exact, rel=0.03)


def test_a_codebook(runs, tmp_path):
    recipe = replace(RECIPES["autoencoder-tiny"](runs), regularisation="vq", num_codes=64)
    exact, half = losses(recipe, tmp_path)
    assert half == pytest.approx(exact, rel=0.03)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    list(pack_images(make_images(folder / "raw"), folder / "images", size=32))
    return folder


def test_recipes_of_images(images, tmp_path):
    exact, half = losses(RECIPES["autoencoder-paper-tiny"](images), tmp_path / "autoencoder")
    assert half == pytest.approx(exact, rel=0.05)
    list(run_recipe(RECIPES["autoencoder-paper-tiny"](images), images / "autoencoder"))
    exact, half = losses(RECIPES["generator-paper-tiny"](images), tmp_path / "generator")
    assert half == pytest.approx(exact, rel=0.03)
