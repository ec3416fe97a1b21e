"""The stages trained once, at a fraction of their size, for every test that builds on them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train autoencoder, editor and decoder on three rendered persons; the runs lie side by side."""
    from omote.data.population import PopulationConfig, make_population
    from omote.recipes import RECIPES
    from omote.training.run import run_recipe

    folder = tmp_path_factory.mktemp("runs")
    list(make_population(PopulationConfig(num_images=5), folder / "population", num_persons=3))
    for stage in ("autoencoder", "editor", "decoder"):
        list(run_recipe(RECIPES[f"{stage}-tiny"](folder), folder / stage))
    return folder
