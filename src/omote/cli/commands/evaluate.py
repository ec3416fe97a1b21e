"""``omote evaluate``."""

from __future__ import annotations

from omote.cli import studies
from omote.studies.registry import SUITES

Options = studies.subcommands(SUITES)
NAMES = [kind.NAME for kind in SUITES]
run = studies.run
