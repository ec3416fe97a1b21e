"""Damaged side files of every kind: each reads or is refused in one line, whatever its parser throws."""

import os

import pytest

from side_files import KINDS, run

# By hand, for hours: OMOTE_MUTATIONS=20000 pytest tests/test_side_files.py, or python tests/helpers/side_files.py.
COUNT = int(os.environ.get("OMOTE_MUTATIONS", "60"))


@pytest.mark.parametrize("name", list(KINDS))
def test_a_mutated_file_reads_or_is_one_line(name, tmp_path):
    found = run(name, COUNT, 0, tmp_path)
    assert found["read"] + found["refused"] == COUNT, dict(found)
    assert found["refused"]
