"""``omote study``."""

from __future__ import annotations

from omote.cli.studies import run
from omote.studies.registry import STUDIES

__all__ = ["KINDS", "run"]

KINDS = STUDIES
