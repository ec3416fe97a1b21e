"""Every recipe says how it is run, how long it takes and what to expect of it; and is complete as it stands."""

import re
from pathlib import Path

import pytest

from omote.config import dumps, from_json, to_json
from omote.engine.loop import EngineConfig
from omote.recipes import RECIPES, tiny


@pytest.mark.parametrize("name", RECIPES)
def test_its_docstring_has_command_hours_and_score(name):
    recipe = RECIPES[name]
    said = recipe.__doc__
    if "-tiny" in name or name.endswith("tiny"):
        # They take seconds and mean nothing, as their module says for all of them.
        assert said
        assert "without an expected score" in " ".join(tiny.__doc__.split())
        return
    assert re.search(rf"omote train {re.escape(name)} --run", " ".join(said.split())), said
    assert re.search(r"Hours: |Hours are", said), said
    assert "Score" in said, said


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_same_after_writing_and_reading(name):
    config = RECIPES[name](Path("runs"))
    assert isinstance(config.engine, EngineConfig)
    assert from_json(type(config), to_json(config)) == config
    assert dumps(config)
