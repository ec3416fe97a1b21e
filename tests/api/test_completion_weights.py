"""Which network completes an avatar's scan: the shipped one, one of the repository's, or the user's own."""

from pathlib import Path

import pytest

from omote.api.avatars import AvatarMaker, completion_of
from omote.completion.names import CompletionName
from omote.errors import CheckpointError, ConfigError
from omote.pipelines.settings import AvatarSettings
from omote.rgbd.weights import SHIPPED_WEIGHTS

BEST = SHIPPED_WEIGHTS / "completion/part-graph"


def test_the_best_network_is_the_default() -> None:
    assert completion_of(AvatarSettings()) == ("auto", BEST)
    assert completion_of(AvatarSettings(completion="part-graph")) == ("part-graph", BEST)


@pytest.mark.parametrize("name", ["diffusion", "sparse", "volume"])
def test_networks_to_compare_with_lie_beside_the_rivals(name: CompletionName) -> None:
    _, found = completion_of(AvatarSettings(completion=name))
    assert found == SHIPPED_WEIGHTS / "rivals/completion" / name


def test_another_head_is_left_as_the_alignment_has_it_unless_a_network_is_named(tmp_path: Path) -> None:
    assert completion_of(AvatarSettings(head=tmp_path))[0] == "restoration"
    assert completion_of(AvatarSettings(head=tmp_path, completion="part-graph"))[0] == "part-graph"


def test_a_network_without_weights_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A wheel has no rivals.
    monkeypatch.setattr("omote.api.avatars.shipped_completion", lambda name: tmp_path / name)
    with pytest.raises(CheckpointError, match=r"no weights of --completion sparse; train one: .*--completion-weights"):
        AvatarMaker(AvatarSettings(completion="sparse"))


@pytest.mark.parametrize("name", ["auto", "sparse"])
def test_own_weights_come_first(name: CompletionName, tmp_path: Path) -> None:
    assert completion_of(AvatarSettings(completion=name, completion_weights=tmp_path)) == (name, tmp_path)


def test_own_weights_that_nothing_would_read_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="completion_weights: expected a completion by a network"):
        AvatarMaker(AvatarSettings(completion="none", completion_weights=tmp_path))
    with pytest.raises(ConfigError, match="got auto with --head"):
        AvatarMaker(AvatarSettings(head=tmp_path, completion_weights=tmp_path))


def test_own_weights_that_are_not_there_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none: no weights of --completion auto"):
        AvatarMaker(AvatarSettings(completion_weights=tmp_path / "none"))
