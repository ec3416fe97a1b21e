"""Four persons seen by three small cameras, and a partial scan of a head that is half there."""

from pathlib import Path

import numpy as np
import pytest

from omote.completion.base import PartialScan
from omote.completion.coarse_head import coarse_head
from omote.datasets.population import PopulationConfig, make_population
from omote.geometry.mesh import vertex_normals
from omote.geometry.rig import rig_of
from omote.head.shipped import shipped_head


@pytest.fixture(scope="session")
def completion_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a population of views in ``views``."""
    folder = tmp_path_factory.mktemp("completion_runs")
    config = PopulationConfig(size=64, num_images=1, rig=rig_of(["3"]), pose_deg=1.0, pose_mm=1.0)
    list(make_population(config, [shipped_head()], folder / "views", num_persons=4))
    return folder


@pytest.fixture(scope="session")
def half_scan() -> PartialScan:
    """The left half of the mean head, 2 mm outside a fitted head that is the mean head."""
    head = shipped_head()
    template = head.template_mm.astype(np.float64)
    normals = vertex_normals(template, head.faces)
    left = np.flatnonzero(template[coarse_head(head).outer, 0] > 0)
    ids = coarse_head(head).outer[left]
    return PartialScan(
        points_mm=template[ids] + 2 * normals[ids],
        normals=normals[ids],
        colors=np.full((len(ids), 3), 0.5),
        fitted_mm=template,
    )
