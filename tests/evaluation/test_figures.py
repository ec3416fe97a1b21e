"""Figures: values lie where their axis says, and the file is XML."""

import itertools
from xml.etree import ElementTree

import pytest

from omote.evaluation.figures import HEIGHT, Axis, axis_over, bar_chart, figure, line_chart, row_chart


def test_axes_put_values_in_order_and_ticks_inside():
    for axis in (axis_over("a", [0.3, 7, 40], logarithmic=True), axis_over("b", [-2, 5, 11]), axis_over("c", [4, 4])):
        assert axis.share(axis.low) == pytest.approx(0)
        assert axis.share(axis.high) == pytest.approx(1)
        ticks = axis.ticks()
        assert 2 <= len(ticks) <= 12
        assert all(-1e-3 <= axis.share(tick) <= 1 + 1e-3 for tick in ticks)
    assert Axis(label="l", low=1, high=100, logarithmic=True).share(10) == pytest.approx(0.5)


def test_a_figure_has_a_line_a_dot_per_point_and_a_bar_per_value():
    series = {"a & b": [(1.0, 5.0), (2.0, 3.0)], "c": [(1.0, 4.0), (2.0, 4.0)]}
    x, y = axis_over("time", [1, 2]), axis_over("distance", [3, 5])
    text = figure([line_chart("lines", series, x, y, {"real": 3.0}), bar_chart("bars", {"a": 3.0, "b": 5.0}, y)])
    root = ElementTree.fromstring(text)
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags.count("polyline") == 2
    assert tags.count("circle") == 4
    assert tags.count("rect") == 3  # the ground too
    assert "a & b" in [element.text for element in root.iter()]


def test_rows_have_a_dot_a_whisker_and_levels():
    rows = {"first": (2.0, 1.0, 3.0), "second": (4.0, float("nan"), float("nan"))}
    root = ElementTree.fromstring(figure([row_chart("rows", rows, axis_over("mm", [1, 4]), {"ceiling": 1.5})]))
    dots = [float(e.get("cx", "nan")) for e in root.iter() if e.tag.endswith("circle")]
    assert dots[0] < dots[1]
    whiskers = [e for e in root.iter() if e.tag.endswith("line") and e.get("stroke-width") == "2"]
    assert [float(whiskers[0].get(k, "nan")) < dots[0] for k in ("x1", "x2")] == [True, False]
    assert len(whiskers) == 1
    assert {"first", "second", "ceiling"} <= {element.text for element in root.iter()}


def test_a_line_has_whiskers_where_there_are_intervals():
    x, y = axis_over("time", [1, 2]), axis_over("mm", [0, 10])
    whiskers = {"a": [(1.0, 4.0, 6.0), (2.0, float("nan"), float("nan"))]}
    root = ElementTree.fromstring(
        figure([line_chart("lines", {"a": [(1.0, 5.0), (2.0, 3.0)]}, x, y, whiskers=whiskers)])
    )
    (drawn,) = [e for e in root.iter() if e.get("stroke-opacity") == "0.45"]
    dot = next(e for e in root.iter() if e.tag.endswith("circle"))
    assert drawn.get("x1") == dot.get("cx")
    assert float(drawn.get("y2", "nan")) < float(dot.get("cy", "nan")) < float(drawn.get("y1", "nan"))


def test_names_of_levels_that_lie_on_each_other_stand_in_one_line():
    x, y = axis_over("time", [1, 2]), axis_over("mm", [0, 10])
    levels = {"autoencoder": 2.0, "true render": 2.1, "copy": 8.0}
    root = ElementTree.fromstring(figure([line_chart("lines", {"a": [(1.0, 5.0), (2.0, 3.0)]}, x, y, levels)]))
    said = [element.text for element in root.iter()]
    assert "autoencoder, true render" in said
    assert "copy" in said
    assert len([e for e in root.iter() if e.get("stroke-dasharray") == "2 3"]) == 3


def test_many_names_at_the_foot_of_a_chart_stay_in_it_and_apart():
    lines = {f"line {i}": [(1, 1 + 0.001 * i), (2, 1 + 0.001 * i)] for i in range(14)}
    drawn = line_chart("t", lines, axis_over("x", [1, 2]), axis_over("y", [1, 9]))
    ends = ElementTree.fromstring(f"<g>{drawn}</g>").findall("text[@text-anchor='start']")
    at = sorted(float(text.attrib["y"]) for text in ends if str(text.text).startswith("line"))
    assert len(at) == 14
    assert at[-1] < HEIGHT
    assert all(b - a >= 12.9 for a, b in itertools.pairwise(at))
