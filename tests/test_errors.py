from __future__ import annotations

import importlib

import pytest

from omote.errors import ConfigError, of_extra


def test_a_missing_package_is_one_line_that_names_its_extra() -> None:
    line = r"^no_such_package is not installed; pip install 'omote\[train\]'$"
    with pytest.raises(ConfigError, match=line), of_extra("train"):
        importlib.import_module("no_such_package")
