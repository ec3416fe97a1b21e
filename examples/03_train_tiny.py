"""Training, at its smallest: a population of three persons, a first stage and an editor of eight steps each.

    python examples/03_train_tiny.py runs

The weights mean nothing; `omote train autoencoder-cpu` and `editor-cpu` are the same code at full size. The same command resumes
a run that was interrupted.
"""

import sys
from pathlib import Path

import omote
from omote.api import Execution, PopulationSettings, recipe


def main(runs: str = "runs") -> None:
    """Render a population and train both stages on it."""
    folder = Path(runs)
    omote.population(folder / "population", PopulationSettings(persons=3), execution=Execution(workers=1))
    for stage in ("autoencoder", "editor"):
        config = recipe(f"{stage}-tiny", run=folder / stage)
        print(omote.train(config, run=folder / stage))


if __name__ == "__main__":
    main(*sys.argv[1:])
