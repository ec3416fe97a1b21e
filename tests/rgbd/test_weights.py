"""Fingerprints of weights."""

from __future__ import annotations

import json
from pathlib import Path

from omote.rgbd.weights import fingerprint


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


def test_rivals_beside_the_weights_are_other_networks(tmp_path: Path) -> None:
    (tmp_path / "editor.safetensors").write_bytes(b"1")
    before = fingerprint(tmp_path)
    (tmp_path / "rivals/regression").mkdir(parents=True)
    (tmp_path / "rivals/regression/editor.safetensors").write_bytes(b"2")
    # Nor is the record of their training.
    (tmp_path / "training.json").write_text("{}")
    assert fingerprint(tmp_path) == before
    assert fingerprint(tmp_path / "rivals/regression") not in (before, fingerprint(tmp_path / "rivals"))


def test_a_run_is_its_exported_weights_and_their_first_stage(tmp_path: Path) -> None:
    run, first_stage = tmp_path / "run", tmp_path / "first"
    for folder in (run / "export/editor", run / "checkpoint", first_stage):
        folder.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"autoencoder": str(first_stage)}))
    files = (first_stage / "a.safetensors", run / "export/editor/e.safetensors", run / "checkpoint/w.safetensors")
    found = []
    for changed in (*files, files[-1]):
        changed.write_bytes(changed.read_bytes() + b"1" if changed.exists() else b"1")
        found.append(fingerprint(run))
    assert len(set(found)) == 2
    assert found[1] == found[2] == found[3]
