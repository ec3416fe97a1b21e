"""``omote evaluate``."""

from __future__ import annotations

from omote.cli.studies import run
from omote.studies.registry import SUITES

__all__ = ["KINDS", "run"]

KINDS = SUITES
