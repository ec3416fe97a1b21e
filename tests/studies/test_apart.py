"""A measurement in a process of its own: its result comes back, and so does the reason of its failure."""

import os

import pytest

from omote.errors import ConfigError, OmoteError
from omote.studies.apart import apart


def measure(kind: str) -> int:
    if kind == "refused":
        raise ConfigError("no such file")
    if kind == "dead":
        os._exit(1)
    return os.getpid()


def test_it_runs_in_another_process() -> None:
    assert apart("not measured", measure, "well") != os.getpid()


@pytest.mark.parametrize(("kind", "reason"), [("refused", r"no such file"), ("dead", r".*process.*terminated.*")])
def test_a_failure_is_reported_with_its_reason(kind: str, reason: str) -> None:
    with pytest.raises(OmoteError, match=rf"^not measured \({reason}\)$"):
        apart("not measured", measure, kind)
