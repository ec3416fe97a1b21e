"""Six persons seen by three small cameras."""

from pathlib import Path

import pytest

from omote.datasets.population import PopulationConfig, make_population
from omote.geometry.rig import rig_of
from omote.head.shipped import shipped_head


@pytest.fixture(scope="session")
def view_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a population of views in ``views``."""
    folder = tmp_path_factory.mktemp("view_runs")
    config = PopulationConfig(size=64, num_images=2, rig=rig_of(["3"]), pose_deg=1.0, pose_mm=1.0)
    list(make_population(config, [shipped_head()], folder / "views", num_persons=6))
    return folder
