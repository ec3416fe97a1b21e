"""Metrics, and the keys under which numbers are written.

The key of a number is a metric's key and a row: ``depth/mae_mm_metric/model/head=omote``. A metric's key may have parameters in
braces, ``fd/{extractor}``, with a set of values each. Only registered keys can be written, and two metrics cannot share one.
`omote.evaluation.catalogue` registers this project's metrics, and re-exports this module.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from omote.evaluation.comparison import Comparison
from omote.evaluation.features import ExtractorName, PerceptualName
from omote.evaluation.judges.panel import JUDGES
from omote.evaluation.records import Row
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES

Better = Literal["lower", "higher", "neither"]
# Any count, and any metric's own key; other parameters have closed sets of values.
COUNT, METRIC = ("{n}",), ("{metric}",)
PARAMETERS: Mapping[str, Sequence[str]] = {
    "judge": JUDGES,
    "category": CATEGORIES,
    "network": ("faceapi", "arcface_r50", "arcface_r100"),
    "extractor": get_args(ExtractorName),
    "perceptual": (*get_args(PerceptualName), "hed_vgg16"),
    "n": COUNT,
    "metric": METRIC,
}


@dataclass(frozen=True)
class Metric:
    """Definition of a metric.

    Attributes:
        key: ``<group>/<name>``, with parameters of `PARAMETERS` in braces.
        title: title in a table or a figure; may contain parameters.
        unit: unit, or "" for none.
        better: direction of better values.
        digits: decimals in tables for readers.
        function: function that computes the metric.
        definition: one or two sentences; may contain parameters.
        source: publication, or "" for a definition of this project.
        measure: value per image, for metrics that need only a row's images and the ground truth.
        with_neutral: whether images of the neutral category are included.
        of_truth: whether the true render's value is informative.
    """

    key: str
    title: str
    unit: str
    better: Better
    digits: int
    function: Callable[..., object]
    definition: str
    _: KW_ONLY
    source: str = ""
    measure: Callable[[Comparison], Float[np.ndarray, "n"]] | None = field(default=None, repr=False)
    with_neutral: bool = True
    of_truth: bool = False

    def named(self, **values: str) -> Metric:
        """The metric with values for its parameters, in key, title and definition."""
        texts = {name: getattr(self, name) for name in ("key", "title", "definition")}
        for parameter, value in values.items():
            texts = {name: text.replace(f"{{{parameter}}}", value) for name, text in texts.items()}
        return replace(self, **texts)

    def label(self) -> str:
        """Title, unit and direction in one line, for axes and charts."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit}" + ("" if self.better == "neither" else f" ({self.better} is better)")


# In the order of registration, and by key, with the values of closed parameters filled in.
_METRICS: list[Metric] = []
_BY_KEY: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a metric to the catalogue.

    Returns:
        The metric itself.

    Raises:
        ValueError: an unknown parameter, an invalid key, or the key of another metric.
    """
    parameters = re.findall(r"{(\w*)}", metric.key)
    if unknown := [name for name in parameters if name not in PARAMETERS]:
        raise ValueError(f"{metric.key}: expected parameters of {', '.join(PARAMETERS)}, got {unknown[0]}")
    if not re.fullmatch(r"[a-z0-9_{}]+(/[a-z0-9_{}]+)+", metric.key):
        raise ValueError(f"{metric.key}: expected <group>/<name> in small letters, figures and _")
    named = [
        metric.named(**dict(zip(parameters, values, strict=True)))
        for values in itertools.product(*(PARAMETERS[name] for name in parameters))
    ]
    for key in (key for one in named for key in (one.key, one.key.rpartition("/")[0])):
        if (other := _find(key)) is not None:
            raise ValueError(f"{metric.key}: {key} is a key of {other.key} already; give it another name")
    _METRICS.append(metric)
    _BY_KEY.update({one.key: one for one in named})
    return metric


def catalogue() -> Iterator[Metric]:
    """All metrics, without values for their parameters."""
    yield from _METRICS


def markdown() -> str:
    """The catalogue as the table of docs/evaluation.md."""
    lines = ["| key | unit | better | what it is | function |", "|---|---|---|---|---|"]
    for metric in _METRICS:
        definition = metric.definition + (f" ({metric.source})" if metric.source else "")
        module = getattr(metric.function, "__module__", None) or "numpy"
        name = f"{module}.{metric.function.__qualname__}".removeprefix("builtins.").removeprefix("omote.evaluation.")
        cells = (f"`{metric.key}`", metric.unit, metric.better, definition, f"`{name}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def metric_of(key: str) -> Metric:
    """The metric of a key without row, with the key's parameters filled in.

    Raises:
        ValueError: no metric has this key; the nearest one is suggested.
    """
    metric, row = split(key)
    if row != Row():
        raise ValueError(f"{key}: no such metric in the catalogue, but {metric.key} and a row")
    return metric


def split(key: str) -> tuple[Metric, Row]:
    """The metric and the row of a number's key.

    Raises:
        ValueError: no metric has this key; the nearest one is suggested.
    """
    *parts, last = key.split("/")
    at: list[tuple[str, str]] = []
    while "=" in last and parts:
        axis, _, value = last.partition("=")
        at.insert(0, (axis, value))
        *parts, last = parts
    above = "/".join(parts)
    for metric, name in ((f"{above}/{last}", ""), (above, last)):
        if (found := _find(metric)) is not None:
            return found, Row(name, tuple(at))
    near = difflib.get_close_matches(f"{above}/{last}", _BY_KEY, n=1) or difflib.get_close_matches(above, _BY_KEY, n=1)
    way_out = f"did you mean {near[0]!r}?" if near else "register it first"
    raise ValueError(f"{key}: no such metric in the catalogue; {way_out}")


def checked(numbers: Mapping[str, float | int]) -> dict[str, float | int | None]:
    """Numbers in the order of their keys; NaN and infinity become None.

    Raises:
        ValueError: a key is not in the catalogue.
    """
    for key in numbers:
        split(key)
    return {key: value if math.isfinite(value) else None for key, value in sorted(numbers.items())}


def write_metrics(path: Path, numbers: Mapping[str, float | int]) -> None:
    """Write a ``metrics.json``, whole or not at all.

    Raises:
        ValueError: a key is not in the catalogue.
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(checked(numbers), indent=2) + "\n", encoding="utf-8")


def _find(key: str) -> Metric | None:
    """The metric of a key without row; counts and metrics' own keys are replaced by their parameters."""
    if key in _BY_KEY:
        return _BY_KEY[key]
    for count in re.findall(r"(?<=_)[1-9]\d*(?=_|$)", key):
        if (found := _BY_KEY.get(re.sub(rf"(?<=_){count}(?=_|$)", "{n}", key, count=1))) is not None:
            return found.named(n=count)
    group, _, inner = key.partition("/")
    over, of = _BY_KEY.get(f"{group}/{{metric}}"), _find(inner) if inner else None
    return None if over is None or of is None else replace(over.named(metric=of.title), key=key)
