"""Configs survive the way to JSON and back, and everything else is refused with the key's path."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omote.config import Range, dumps, from_json, load, override, to_json
from omote.errors import ConfigError


class Kind(enum.Enum):
    KL = "kl"
    VQ = "vq"


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: Annotated[float, Range(0, 1)] = 0.5
    name: str = "a"
    channels: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    folder: Path
    inner: Inner = Inner()
    kind: Kind = Kind.KL
    split: Literal["train", "test"] = "train"
    limit: int | None = None
    pair: tuple[int, str] = (1, "x")
    steps: Annotated[int, Range(1)] = 4
    weights: dict[str, float] = field(default_factory=dict)
    on: bool = False
    start: Inner | None = None
    empty: tuple[()] = ()

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < self.steps:
            raise ValueError(f"limit: expected at least steps = {self.steps}, got {self.limit}")


finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(
    Inner, rate=st.floats(0, 1), name=st.text(max_size=5), channels=st.lists(st.integers(), max_size=3).map(tuple)
)
outers = st.builds(
    Outer,
    folder=st.text("abc/._ü", min_size=1, max_size=8).map(Path),
    inner=inners,
    kind=st.sampled_from(Kind),
    split=st.sampled_from(["train", "test"]),
    limit=st.none() | st.integers(100, 200),
    pair=st.tuples(st.integers(), st.text(max_size=3)),
    steps=st.integers(1, 100),
    weights=st.dictionaries(st.text(max_size=4), finite, max_size=3),
    on=st.booleans(),
    start=st.none() | inners,
)


@given(outers)
def test_a_config_comes_back_equal_through_text(config: Outer) -> None:
    text = dumps(config)
    assert from_json(Outer, json.loads(text)) == config
    assert dumps(from_json(Outer, json.loads(text))) == text


@given(outers)
def test_every_key_is_written_in_the_order_of_the_fields(config: Outer) -> None:
    assert list(to_json(config))[:3] == ["folder", "inner", "kind"]
    assert list(to_json(config)["inner"]) == ["rate", "name", "channels"]


def test_equal_dictionaries_give_equal_text_whatever_their_order() -> None:
    a, b = ({"x": 1.0, "y": 2.0}, {"y": 2.0, "x": 1.0})
    assert dumps(Outer(folder=Path("f"), weights=a)) == dumps(Outer(folder=Path("f"), weights=b))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"folder": "f", "inner": {"rat": 0.1}}, "inner.rat: unknown key (did you mean 'rate'?)"),
        ({"folder": "f", "zzzzzz": 1}, "zzzzzz: unknown key (known: empty, folder, inner"),
        ({}, "folder: missing; it has no default"),
        ({"folder": 3}, "folder: expected a path as text, got 3"),
        ({"folder": ""}, "folder: expected a path, got ''"),
        ({"folder": "f", "inner": {"rate": 1.5}}, "inner.rate: expected 0 to 1, got 1.5"),
        ({"folder": "f", "steps": 0}, "steps: expected at least 1, got 0"),
        ({"folder": "f", "steps": 1.0}, "steps: expected a whole number, got 1.0"),
        ({"folder": "f", "steps": True}, "steps: expected a whole number, got True"),
        ({"folder": "f", "on": 1}, "on: expected true or false, got 1"),
        ({"folder": "f", "inner": {"rate": "0.1"}}, "inner.rate: expected a number, got '0.1'"),
        ({"folder": "f", "inner": {"rate": float("nan")}}, "inner.rate: expected a finite number, got nan"),
        ({"folder": "f", "inner": {"rate": 10**400}}, "inner.rate: expected a finite number"),
        ({"folder": "f", "inner": {"channels": [1, "b"]}}, "inner.channels[1]: expected a whole number, got 'b'"),
        ({"folder": "f", "inner": {"channels": 3}}, "inner.channels: expected a list, got 3"),
        ({"folder": "f", "pair": [1]}, "pair: expected a list of 2, got [1]"),
        ({"folder": "f", "empty": [1]}, "empty: expected a list of 0, got [1]"),
        ({"folder": "f", "kind": "gan"}, "kind: expected 'kl' | 'vq', got 'gan'"),
        ({"folder": "f", "split": "tests"}, "split: expected 'train' | 'test', got 'tests'"),
        ({"folder": "f", "limit": 2}, "limit: expected at least steps = 4, got 2"),
        ({"folder": "f", "weights": {"w": "x"}}, "weights.w: expected a number, got 'x'"),
        ({"folder": "f", "start": {"rate": 9}}, "start.rate: expected 0 to 1, got 9"),
        ([], "config: expected an object, got []"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(data: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Outer, data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_number_is_a_number() -> None:
    rate = from_json(Inner, {"rate": 1}).rate
    assert rate == 1.0
    assert isinstance(rate, float)


@pytest.mark.parametrize("value", [float("inf"), {1: 2}, {1, 2}, object()])
def test_what_would_not_come_back_is_not_written(value: object) -> None:
    with pytest.raises(ConfigError):
        to_json(value)


def test_override_changes_one_value_and_checks_it() -> None:
    config = Outer(folder=Path("f"))
    changed = override(config, ["inner.channels=[3]", "kind=vq", "folder=a=b", "limit=null"])
    assert changed == Outer(folder=Path("a=b"), kind=Kind.VQ, inner=Inner(channels=(3,)))
    for assignment, says in {
        "inner.chanels=[3]": "inner.chanels: unknown key (did you mean 'channels'?)",
        "iner.rate=1": "iner: unknown key (did you mean 'inner'?)",
        "steps.more=1": "steps.more: steps holds no further keys",
        "steps": "expected key=value, got 'steps'",
        "inner.rate=2": "inner.rate: expected 0 to 1, got 2",
    }.items():
        with pytest.raises(ConfigError) as caught:
            override(config, [assignment])
        assert says in str(caught.value)


def test_a_config_file_is_named_in_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(dumps(Outer(folder=Path("f"))))
    assert load(Outer, file) == Outer(folder=Path("f"))
    for text in ("", "[" * 100_000, '{"folder": 1}', "\x00"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"config\.json: .*expected"):
            load(Outer, file)
    with pytest.raises(ConfigError, match="No such file"):
        load(Outer, tmp_path / "none.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={name: json_values for name in Outer.__dataclass_fields__}))
def test_any_json_builds_a_config_that_round_trips_or_is_a_one_line_error(data: Any) -> None:
    try:
        config = from_json(Outer, data)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert from_json(Outer, json.loads(dumps(config))) == config


def test_every_recipe_survives_the_way_to_json_and_back() -> None:
    from omote.recipes import RECIPES

    for name, make in RECIPES.items():
        config = make(Path("runs"))
        assert from_json(type(config), json.loads(dumps(config))) == config, name
