"""Shared fixtures; shapes and types of `omote` are checked at run time in tests, and only there."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

START_S = time.monotonic()

_njit = numba.njit


def _njit_of_the_plain_function(*arguments: Any, **options: Any) -> Any:
    # The hook below wraps every function right where it is defined, and numba cannot compile the wrapper.
    if arguments and callable(arguments[0]):
        return _njit(inspect.unwrap(arguments[0]), *arguments[1:], **options)
    return lambda function: _njit(*arguments, **options)(inspect.unwrap(function))


# Before the first `import omote`: beartype then checks every annotated call, jaxtyping every array's shape.
if os.environ.get("OMOTE_TYPECHECK", "1") != "0":
    numba.njit = _njit_of_the_plain_function
    install_import_hook("omote", "beartype.beartype")

# Shared cores make a time limit per example a coin toss, and the first example pays for numba's compilation.
settings.register_profile(
    "default", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile(
    "thorough", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of data that lies outside the repository; skip the test where it is absent."""
    root = Path(os.environ.get("OMOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (root / "data").is_dir():
        pytest.skip(f"no data folder at {root}/data: set OMOTE_SHARED to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def steady_clock() -> type:
    """A clock for training that moves by 1/64 s a look, so that what a run of seconds does depends on no machine's load."""

    class Clock:
        looks = 0

        @classmethod
        def monotonic(cls) -> float:
            cls.looks += 1
            return cls.looks / 64

        process_time = monotonic

    return Clock


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget-s", type=float, default=0.0, help="fail every test that starts later than this; 0: none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A process takes whole files, in this order: a long file at the end would leave the other processes idle.
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    budget_s = item.config.getoption("--budget-s")
    if budget_s and time.monotonic() - START_S > budget_s:
        pytest.fail(f"the session's time budget of {budget_s:.0f} s is spent", pytrace=False)


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a population of ten persons that are bulging discs: what trains on shards needs no renderer."""
    import numpy as np

    from omote.datasets.cache import DEPTH_UNIT_MM, empty_arrays, write_shard

    rng, size = np.random.default_rng(0), 64
    arrays = empty_arrays(10, 4, size, num_identity=100)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = x**2 + y**2
    for person in range(10):
        skin = rng.uniform(0.3, 0.8, 3)
        for k in range(4):
            shade = 0.8 + 0.2 * np.cos(4 * x + k)[..., None]
            arrays["rgb"][person, k] = np.where(radius[..., None] < 0.7, 255 * skin * shade, 0)
            arrays["depth"][person, k] = -40 * (1 - radius) * (1 + 0.1 * person) / DEPTH_UNIT_MM
            arrays["mask"][person, k] = radius < 0.7
            arrays["category"][person, k] = k
        arrays["landmarks"][person] = rng.uniform(0.3, 0.7, (1, 68, 2)) * size
    folder = tmp_path_factory.mktemp("discs")
    write_shard(folder / "shard_0000000", arrays, {"seed": 0, "size": size})
    return folder


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a folder once for all processes of a session: the first that needs it makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train autoencoder, editor and decoder on three rendered persons; the runs lie side by side."""
    from omote.datasets.population import PopulationConfig, make_population
    from omote.head.shipped import population_heads
    from omote.recipes import RECIPES
    from omote.recipes.run import run_recipe

    def make(folder: Path) -> None:
        list(make_population(PopulationConfig(num_images=5), population_heads(), folder / "population", num_persons=3))
        for stage in ("autoencoder", "editor", "decoder"):
            list(run_recipe(RECIPES[f"{stage}-tiny"](folder), folder / stage))

    return shared_folder(tmp_path_factory, "runs", make)


@pytest.fixture(scope="session")
def candidate_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train every stage of candidates 1 and 2 on a few persons, as a trial of their study does in its own folder."""
    from omote.progress import finish
    from omote.studies.candidates import train_tiny

    return shared_folder(tmp_path_factory, "trial", lambda folder: finish(train_tiny(folder / "runs"))) / "runs"
