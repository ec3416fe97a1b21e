"""Learn the unit style that ships from a population of both head models; its README gives the command."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from omote.datasets.population import PopulationConfig
from omote.head.shipped import population_heads
from omote.tools.unit_style import StyleReport, learn_unit_style


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="ICT-FaceKit: a checkout or its packed npz")
    parser.add_argument("--persons", type=int, default=600)
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    options = parser.parse_args()
    config = PopulationConfig(seed=0, split="train", ict=options.ict)
    for item in learn_unit_style(config, population_heads(options.ict), options.persons):
        if isinstance(item, int):
            if item % 50 == 0:
                print(f"{item} of {options.persons} persons", flush=True)
            continue
        style, report = item
        assert isinstance(report, StyleReport)
        style.save(options.out)
        print(json.dumps(asdict(report), indent=1))


if __name__ == "__main__":
    main()
