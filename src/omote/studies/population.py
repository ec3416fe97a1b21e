"""Whether the population's ground truth is recognisable: judges on true renders of unseen persons, and a contact sheet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from omote.datasets.population import draw_person, render_person
from omote.evaluation.comparison import batch, stacked
from omote.evaluation.judges.panel import load_expression_judges
from omote.evaluation.measure import judged
from omote.evaluation.records import PersonRecords, load_records, save_records
from omote.evaluation.summary import confusions, summarise
from omote.files import atomic_path, make_folder
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.shipped import population_heads
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.suites import PopulationSuite
from omote.studies.table import CEILING

EXPRESSION_STREAM = 17
SHEET_COLUMNS = 12


def measure_population(suite: PopulationSuite, work: Work) -> Steps[Results]:
    """Judge true renders, and write ``sheet.png``: a row per category, a column per person.

    Raises:
        JudgeError: the judges are not installed.
    """
    population, judges = replace(suite.unseen(), num_images=1), load_expression_judges()
    heads = population_heads(population.ict)
    make_folder(work.out / "images")

    def measure(name: str) -> PersonRecords:
        person = draw_person(population, int(name), heads)
        rng = np.random.default_rng([EXPRESSION_STREAM, population.seed, int(name)])
        shown = tuple(draw_expression(category, rng) for category in CATEGORIES)
        rendered = list(render_person(person, heads, shown))
        images = stacked([image for image, _, _ in rendered])
        neutral = torch.from_numpy(np.repeat(rendered[0][1][None], len(CATEGORIES), 0))
        if int(name) < SHEET_COLUMNS:
            column = np.round(np.concatenate(list(images.rgb)) * 255).astype(np.uint8)
            with atomic_path(work.out / "images" / f"{name}.png") as temporary:
                Image.fromarray(column).save(temporary)
        return PersonRecords(
            parts={"head": heads[person.head].name},
            category=tuple(range(len(CATEGORIES))),
            intensity=tuple(float(e.intensity) for e in shown),
            records=tuple(judged(CEILING, batch(images), neutral, CATEGORIES, judges)),
        )

    found = yield from work.kept("persons", suite.names(), measure, save_records, load_records)
    persons = list(found.values())
    columns = [np.asarray(Image.open(path)) for path in sorted((work.out / "images").glob("*.png"))]
    with atomic_path(work.out / "sheet.png") as temporary:
        Image.fromarray(np.concatenate(columns, axis=1)).save(temporary)
    return Results(table=summarise(persons), numbers=confusions(persons, CEILING))
