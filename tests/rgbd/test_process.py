"""The model in a process of its own answers as it does here, and says what is wrong as it does here."""

import shutil
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.errors import CheckpointError, ConfigError
from omote.head.expressions import typical_expression
from omote.head.shipped import population_heads, shipped_head
from omote.rgbd.backends.process import EditingProcess
from omote.rgbd.load import load_model
from omote.rgbd.model import EditSettings
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Expression

pytestmark = pytest.mark.early


@pytest.fixture(scope="module")
def source():
    config = PopulationConfig(num_images=1, split="test")
    return next(
        iter(render_person(draw_person(config, 3, population_heads(config.ict)), population_heads(config.ict)))
    )[0]


def test_it_edits_as_the_model_does_and_ends_when_closed(source):
    process, wanted = (
        EditingProcess(shipped_head, SHIPPED_WEIGHTS),
        [typical_expression("happy"), typical_expression("sad")],
    )
    settings = EditSettings(seed=4)
    try:
        here = load_model(shipped_head())
        assert process.sample_size == here.sample_size
        there, here_images = process.edit(source, wanted, settings), here.edit(source, wanted, settings)
        for a, b in zip(there, here_images, strict=True):
            np.testing.assert_allclose(a.rgb, b.rgb, atol=1e-4)
            np.testing.assert_allclose(a.depth_mm, b.depth_mm, atol=0.05)
        assert process.peak_memory_mb > 50
        # What goes wrong there is an error here, and the next request is answered.
        with pytest.raises(ConfigError, match="glad"):
            process.edit(source, [Expression(category="glad")], settings)
        assert len(process.edit(source, wanted[:1], settings)) == 1
    finally:
        process.close()
    assert not process._process.is_alive()


def test_damaged_weights_are_one_clear_line(tmp_path):
    shutil.copytree(SHIPPED_WEIGHTS / "autoencoder", tmp_path / "autoencoder")
    shutil.copytree(SHIPPED_WEIGHTS / "editor", tmp_path / "editor")
    for path in (tmp_path / "editor").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    process = EditingProcess(shipped_head, tmp_path)
    with pytest.raises(CheckpointError, match="do not load"):
        assert process.sample_size
    process.close()


@pytest.mark.parametrize("after_s", [0.0, 2.0])
def test_it_ends_at_once_and_quietly_with_an_owner_that_is_killed(after_s):
    program = """
import time
from omote.head.shipped import shipped_head
from omote.rgbd.backends.process import EditingProcess
from omote.rgbd.weights import SHIPPED_WEIGHTS
if __name__ == "__main__":
    print(EditingProcess(shipped_head, SHIPPED_WEIGHTS)._process.pid, flush=True)
    time.sleep(600)
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process = psutil.Process(int(owner.stdout.readline()))
    time.sleep(after_s)
    owner.kill()
    process.wait(timeout=10)
    # Whoever else held the pipe would keep this waiting.
    assert owner.stderr.read() == ""
    owner.wait()


def test_a_process_that_dies_is_said(source):
    process = EditingProcess(shipped_head, SHIPPED_WEIGHTS)
    time.sleep(0.2)
    process._process.kill()
    with pytest.raises(CheckpointError, match="ended without an answer"):
        assert process.sample_size
    process.close()
