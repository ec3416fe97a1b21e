"""The shipped model on one unseen person: depth error per expression, beside copying the source.

    python examples/04_measure_one_person.py 7

`omote evaluate quick` measures ten persons, and more of each.
"""

import sys

import numpy as np

from omote.datasets.population import PopulationConfig, draw_person
from omote.evaluation.ground_truth import render_ground_truth
from omote.evaluation.metrics import depth_errors
from omote.head.shipped import population_heads, shipped_head
from omote.rgbd.load import load_model
from omote.types import Rgbd


def main(index: str = "0") -> dict[str, float]:
    """Print and return the mean absolute depth error in mm of each expression."""
    heads = population_heads(None)
    person = draw_person(PopulationConfig(split="test", num_images=7), int(index), heads)
    truth = render_ground_truth(person, heads)
    edited = load_model(shipped_head()).edit(truth.source, person.expressions)

    def error_mm(image: Rgbd, true: Rgbd) -> float:
        return float(depth_errors(image.depth_mm[None], true.depth_mm[None], np.array(true.mask)[None]).mae_mm[0])

    errors = {}
    for expression, image, true in zip(person.expressions, edited, truth.images, strict=True):
        errors[expression.name] = error_mm(image, true)
        copied = error_mm(truth.source, true)
        print(f"{expression.name:10} model {errors[expression.name]:.2f} mm   copied source {copied:.2f} mm")
    return errors


if __name__ == "__main__":
    main(*sys.argv[1:])
