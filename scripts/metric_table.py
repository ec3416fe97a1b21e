"""Write the catalogue of metrics into docs/evaluation.md: ``python scripts/metric_table.py``."""

from __future__ import annotations

from pathlib import Path

from omote.evaluation.catalogue import markdown

PAGE = Path(__file__).parents[1] / "docs/evaluation.md"
BEGIN, END = "<!-- metrics -->\n", "<!-- /metrics -->\n"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + markdown() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
