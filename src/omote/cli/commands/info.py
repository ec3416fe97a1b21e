"""``omote info``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """Show what is installed.

    Good to paste into a bug report.
    """

    json: bool = False
    """as JSON"""


def run(options: Options) -> None:
    """Print it."""
    from omote import api

    facts = api.info()
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{width}}  {value}")
