"""``omote study``."""

from __future__ import annotations

from omote.cli import studies
from omote.studies.registry import STUDIES

Options = studies.subcommands(STUDIES)
NAMES = [kind.NAME for kind in STUDIES]
run = studies.run
