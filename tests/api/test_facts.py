"""``omote info`` says what a report of a defect needs, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from omote import api


def test_the_report_has_versions_extras_system_processor_torch_and_weights() -> None:
    facts = api.info()
    assert {key.partition("/")[0] for key in facts} == {
        "version", "extra", "system", "machine", "torch", "weights", "head", "judges",
    }  # fmt: skip
    assert {"extra/formats", "extra/openvino"} <= facts.keys()
    assert "webdataset" in str(facts["extra/train"])
    assert str(facts["weights/shipped"]).endswith(")")
    assert facts["weights/latent-views"] in ("present", "not present")


def test_no_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(api.__file__).parents[3]
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    facts = api.info()
    assert str(facts["weights/shipped"]).startswith("~/src/omote/weights (")
    assert not any(str(home) in str(value) for value in facts.values())
