from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omote.compiled import kernel


def doubled(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(values)):
        out[i] = 2 * values[i]


def test_without_a_writable_folder_a_kernel_is_compiled_uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("numba.core.caching._CacheLocator.ensure_cache_path", read_only)
    out = np.zeros(3)
    kernel()(doubled)(np.arange(3.0), out)
    np.testing.assert_array_equal(out, [0.0, 2.0, 4.0])


def test_a_kernel_is_cached_in_the_folder_that_the_user_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    kernel()(doubled)(np.arange(3.0), np.zeros(3))
    assert [p.suffix for p in sorted(tmp_path.rglob("*.nb*"))] == [".nbc", ".nbi"]
