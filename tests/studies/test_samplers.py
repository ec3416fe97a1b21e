"""What the sampler survey measures beside the release suite's metrics, and how it sums persons up."""

from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from omote.geometry.camera import orbit_camera
from omote.studies.samplers import draw_figure, high_frequency_ratio, summarise
from omote.types import Rgbd


def image(rgb):
    size = rgb.shape[0]
    depth = np.full((size, size), 700, np.float32)
    return Rgbd(rgb=rgb.astype(np.float32), depth_mm=depth, mask=depth > 0, camera=orbit_camera(size=size))


def test_noise_raises_the_finest_detail_and_blur_lowers_it():
    rng = np.random.default_rng(0)
    truth = uniform_filter(rng.random((32, 32, 3)), (3, 3, 1))
    noisy = np.clip(truth + 0.05 * rng.normal(size=truth.shape), 0, 1)
    assert high_frequency_ratio(image(truth), image(truth)) == pytest.approx(1)
    assert high_frequency_ratio(image(noisy), image(truth)) > 1.2
    assert high_frequency_ratio(image(uniform_filter(truth, (3, 3, 1))), image(truth)) < 0.7


def test_persons_are_summed_up_per_row():
    def person(offset):
        out = {"category": list(range(7)), "judged_both/ceiling": list(range(7)), "judged_both/ddim_2": [0] * 7}
        for key in ("mae", "mae_moving", "psnr", "identity", "high_frequency", "seconds"):
            out[f"{key}/ddim_2"] = [offset + i for i in range(7)]
        return out

    numbers = summarise([person(0), person(2)], ["ddim_2"])
    assert numbers["expression/top1_both/ceiling"] == 1
    assert numbers["expression/top1_both/ddim_2"] == pytest.approx(1 / 7)
    assert numbers["depth/mae_mm_metric/ddim_2"] == pytest.approx(4)
    # Neutral, the first, does not count for colour.
    assert numbers["color/psnr_db/ddim_2"] == pytest.approx(4.5)
    assert numbers["count/persons"] == 2


def test_the_figure_has_a_line_per_method_and_all_of_its_points():
    numbers = {"mae/ddim_1": 2.0, "mae/ddim_4": 1.0, "mae/sdedit_0.5_10": 3.0}
    text = draw_figure(numbers, ["ddim_1", "ddim_4", "sdedit_0.5_10"], [("mae", "error")])
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    lines = [e.get("points").split() for e in root.iter(f"{space}polyline")]
    assert sorted(map(len, lines)) == [1, 2]
    said = [e.text for e in root.iter(f"{space}text")]
    assert "ddim" in said
    assert "sdedit_0.5" in said
