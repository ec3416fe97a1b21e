"""An evaluation folder remembers what was measured and refuses to mix it with anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from omote.api.evaluations import _claim, fingerprint
from omote.errors import OutputError


def test_a_fingerprint_changes_with_content_and_name_only(tmp_path: Path) -> None:
    def weights(name: str, content: bytes) -> str:
        folder = tmp_path / name / content.hex()
        folder.mkdir(parents=True)
        (folder / f"{name}.safetensors").write_bytes(content)
        (folder / "notes.md").write_bytes(content)
        return fingerprint(folder)

    a = weights("a", b"1")
    assert a == fingerprint(tmp_path / "a" / b"1".hex())
    assert len({a, weights("a", b"2"), weights("b", b"1")}) == 3


def test_results_of_other_weights_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "results"
    settings = {"weights": "abc", "config": {"seed": 0, "num_persons": 10}}
    _claim(out, settings)
    _claim(out, {**settings, "config": {"seed": 0, "num_persons": 200}})
    for other in ({**settings, "weights": "def"}, {**settings, "config": {"seed": 1, "num_persons": 10}}):
        with pytest.raises(OutputError, match="other settings"):
            _claim(out, other)
    (out / "config.json").write_text("half")
    with pytest.raises(OutputError, match="other settings"):
        _claim(out, settings)
