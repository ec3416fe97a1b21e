"""What a metric is, and the keys that numbers are written under.

A number's key is a metric's key and a row, ``depth/mae_mm_metric/model/head=omote``. A metric's key may have parameters in
braces, ``fd/{extractor}``, each with the values that it takes. Only registered keys can be written, and two metrics cannot
share one. `omote.evaluation.catalogue` registers those of this project, and is where all of this is imported from.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache
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
Number = float | int | None
# Values of a parameter: a closed set, any count, or any metric's own key.
COUNT, METRIC = "count", "metric"
PARAMETERS: Mapping[str, Sequence[str] | str] = {
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
    """What a number is.

    Attributes:
        key: ``<group>/<name>``, with parameters of `PARAMETERS` in braces.
        title: of a table's column or a figure; may name parameters.
        unit: "" where there is none.
        better: the direction.
        digits: after the point, in tables for people.
        function: what computes it.
        definition: one or two sentences; may name parameters.
        source: publication; "" for a definition of this project.
        measure: the value per image, where images of a row and the truth are all that it takes.
        with_neutral: whether images of the neutral category count.
        of_truth: whether the true render has a value that says something.
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

    @property
    def parameters(self) -> list[str]:
        """Names of the key's parameters."""
        return re.findall(r"{(\w+)}", self.key)

    def named(self, **values: str) -> Metric:
        """The metric with values for parameters, in its key, its title and its definition."""

        def filled(text: str) -> str:
            return re.sub(r"{(\w+)}", lambda found: values.get(found[1], found[0]), text)

        return replace(self, key=filled(self.key), title=filled(self.title), definition=filled(self.definition))

    def label(self) -> str:
        """Title, unit and direction in one line: of an axis or a chart."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit}" + ("" if self.better == "neither" else f" ({self.better} is better)")


_METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a metric to the catalogue.

    Returns:
        The metric.

    Raises:
        ValueError: a parameter or a key that is not decidable, or a key that another metric has.
    """
    if unknown := [name for name in metric.parameters if name not in PARAMETERS]:
        raise ValueError(f"{metric.key}: expected parameters of {', '.join(PARAMETERS)}, got {unknown[0]}")
    if not re.fullmatch(r"[a-z0-9_{}]+(/[a-z0-9_{}]+)+", metric.key):
        raise ValueError(f"{metric.key}: expected <group>/<name> in small letters, figures and _")
    for key in _examples(metric):
        for known in (key, key.rpartition("/")[0]):
            if (other := _find(known)) is not None:
                raise ValueError(f"{metric.key}: {known} is a key of {other.key} already; give it another name")
    _METRICS[metric.key] = metric
    return metric


def catalogue() -> Iterator[Metric]:
    """All metrics, families unnamed."""
    yield from _METRICS.values()


def markdown() -> str:
    """The catalogue as the table of docs/evaluation.md."""
    lines = ["| key | unit | better | what it is | function |", "|---|---|---|---|---|"]
    for metric in _METRICS.values():
        definition = metric.definition + (f" ({metric.source})" if metric.source else "")
        cells = (f"`{metric.key}`", metric.unit, metric.better, definition, f"`{_qualified(metric.function)}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _qualified(function: Callable[..., object]) -> str:
    """Where a function is found; without the package that most are in."""
    module = getattr(function, "__module__", None) or "numpy"
    name = getattr(function, "__qualname__", function.__name__)
    return name if module == "builtins" else f"{module}.{name}".removeprefix("omote.evaluation.")


def metric_of(key: str) -> Metric:
    """The metric of a key without its row, named by the key's parameters.

    Raises:
        ValueError: no metric has this key; the nearest one is suggested.
    """
    found = _find(key)
    if found is None:
        raise ValueError(_unknown(key, key))
    return found


def split(key: str) -> tuple[Metric, Row]:
    """A number's key as its metric and its row.

    Raises:
        ValueError: no metric has this key.
    """
    *parts, last = key.split("/")
    at: list[tuple[str, str]] = []
    while "=" in last and parts:
        axis, _, value = last.partition("=")
        at.insert(0, (axis, value))
        *parts, last = parts
    rest = "/".join([*parts, last])
    for metric_key, name in ((rest, ""), ("/".join(parts), last)):
        if (found := _find(metric_key)) is not None:
            return found, Row(name, tuple(at))
    raise ValueError(_unknown(key, rest.rpartition("/")[0]))


def _unknown(key: str, metric: str) -> str:
    near = difflib.get_close_matches(metric, [example for m in _METRICS.values() for example in _examples(m)], n=1)
    way_out = f"did you mean {near[0]!r}?" if near else "register it first"
    return f"{key}: no such metric in the catalogue; {way_out}"


def checked(numbers: Mapping[str, Number]) -> dict[str, Number]:
    """Numbers in the order of their keys; what is no number (NaN, infinity) as None.

    Raises:
        ValueError: a key that is not of the catalogue.
    """
    for key in numbers:
        split(key)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in sorted(numbers.items())
    }


def write_metrics(path: Path, numbers: Mapping[str, Number]) -> None:
    """Write a ``metrics.json``, whole or not at all.

    Raises:
        ValueError: a key that is not of the catalogue.
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(checked(numbers), indent=2) + "\n", encoding="utf-8")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    def group(name: str) -> str:
        values = PARAMETERS[name]
        inner = {COUNT: "[1-9][0-9]*", METRIC: ".+"}.get(values) if isinstance(values, str) else None
        return f"(?P<{name}>{inner or '|'.join(map(re.escape, values))})"

    parts = re.split(r"{(\w+)}", template)
    return re.compile("".join(group(part) if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def _find(key: str) -> Metric | None:
    if key in _METRICS and not _METRICS[key].parameters:
        return _METRICS[key]
    for metric in _METRICS.values():
        if metric.parameters and (found := _pattern(metric.key).fullmatch(key)):
            values = found.groupdict()
            inner = values.get(METRIC)
            if inner is None:
                return metric.named(**values)
            if (of := _find(inner)) is not None:
                named = metric.named(metric=of.title)
                return replace(named, key=key)
    return None


def _examples(metric: Metric) -> Iterator[str]:
    """Concrete keys: of closed sets all, of counts and metrics one."""
    sets = [PARAMETERS[name] for name in metric.parameters]
    options = [({COUNT: ["8"], METRIC: ["depth/mae_mm_metric"]}[s] if isinstance(s, str) else s) for s in sets]
    for values in itertools.product(*options):
        yield metric.named(**dict(zip(metric.parameters, values, strict=True))).key
