"""Reader of landmark files, the argument of ``--landmarks``."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.npz import read_array
from omote.formats.source import open_regular

_MAX_BYTES = 1 << 20
_KNOWN_AT_LEAST = 12


def read_landmarks(path: Path | str) -> Float[np.ndarray, "68 3"]:
    """Read 68 landmarks (Multi-PIE order) in the scan's own coordinates; a row of NaN or null is an unknown landmark.

    Args:
        path: a JSON file (68 rows, or an object with the key "landmarks"), an NPY file of shape (68, 3), or a text file with
            three numbers per line (separated by commas or spaces; lines that begin with # are skipped).

    Raises:
        ScanError: the file is missing or unreadable, or does not hold 68 × 3 numbers with at least 12 known landmarks.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            if size > _MAX_BYTES:
                raise ScanError(f"{path}: expected 68 landmarks, got a file of {size:,} bytes")
            if path.suffix.lower() == ".npy":
                values = read_array(file, size, "landmarks", path)
            else:
                values = _rows(file.read(_MAX_BYTES).decode("utf-8-sig"), is_json=path.suffix.lower() == ".json")
        values = np.asarray(values, np.float64)
    except OSError as error:
        raise ScanError(f"{path}: the landmarks cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        why = " ".join(str(error).split())[:80]
        raise ScanError(f"{path}: expected 68 rows of x y z, got {why}; see docs/scan-input.md") from error
    if values.shape != (68, 3):
        raise ScanError(f"{path}: expected 68 rows of x y z, got an array of shape {values.shape}")
    known = (np.abs(np.nan_to_num(values, nan=np.inf)) < 1e18).all(axis=1)
    values = np.where(known[:, None], values, np.nan)
    if known.sum() < _KNOWN_AT_LEAST:
        raise ScanError(f"{path}: expected at least {_KNOWN_AT_LEAST} known landmarks, got {known.sum()}")
    return values


def _rows(text: str, *, is_json: bool) -> np.ndarray:
    if is_json:
        data = json.loads(text)
        rows = data["landmarks"] if isinstance(data, dict) else data
        if not isinstance(rows, list) or not all(isinstance(row, list | None) for row in rows):
            raise ValueError("something else")
        return np.array([_row(row) for row in rows], np.float64)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return np.array([[float(v) for v in re.split(r"[\s,;]+", line.strip(" \t,;"))] for line in lines], np.float64)


def _row(row: list[object] | None) -> list[float]:
    if row is None:
        return [math.nan] * 3
    if any(not isinstance(v, int | float | None) or isinstance(v, bool) for v in row):
        raise ValueError(f"{str(row)[:40]}")
    return [math.nan if v is None else float(v) for v in row if isinstance(v, int | float | None)]
