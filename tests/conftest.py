"""Shared fixtures; shapes and types of `omote` are checked at run time in tests, and only there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

START_S = time.monotonic()

# Before the first `import omote`: beartype then checks every annotated call, jaxtyping every array's shape.
if os.environ.get("OMOTE_TYPECHECK", "1") != "0":
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget-s", type=float, default=0.0, help="fail every test that starts later than this; 0: none")


def pytest_runtest_setup(item: pytest.Item) -> None:
    budget_s = item.config.getoption("--budget-s")
    if budget_s and time.monotonic() - START_S > budget_s:
        pytest.fail(f"the session's time budget of {budget_s:.0f} s is spent", pytrace=False)
