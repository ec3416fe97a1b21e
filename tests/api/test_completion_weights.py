"""Which network completes an avatar's scan: the shipped one, one of the repository's, or the user's own."""

from pathlib import Path

import pytest

from omote.api.avatars import AvatarMaker, completion_weights_of
from omote.errors import CheckpointError, ConfigError
from omote.pipelines.settings import AvatarSettings
from omote.rgbd.weights import SHIPPED_WEIGHTS


@pytest.mark.parametrize("name", ["auto", "none", "restoration", "part-graph"])
def test_the_best_network_is_the_default(name: str) -> None:
    settings = AvatarSettings(completion=name)  # type: ignore[arg-type]
    assert completion_weights_of(settings) == SHIPPED_WEIGHTS / "completion/part-graph"


def test_networks_to_compare_with_lie_beside_the_rivals() -> None:
    found = completion_weights_of(AvatarSettings(completion="diffusion"))
    assert found == SHIPPED_WEIGHTS / "rivals/completion/diffusion"


def test_a_network_without_weights_is_refused_at_once() -> None:
    with pytest.raises(CheckpointError, match=r"no weights of --completion sparse; train one: .*--completion-weights"):
        AvatarMaker(AvatarSettings(completion="sparse"))


def test_own_weights_come_first(tmp_path: Path) -> None:
    for name in ("auto", "sparse"):
        settings = AvatarSettings(completion=name, completion_weights=tmp_path)  # type: ignore[arg-type]
        assert completion_weights_of(settings) == tmp_path


def test_own_weights_that_nothing_reads_or_that_are_not_there_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="completion_weights: expected a completion by a network"):
        AvatarMaker(AvatarSettings(completion="none", completion_weights=tmp_path))
    with pytest.raises(CheckpointError, match=r"export/completion of a run"):
        AvatarMaker(AvatarSettings(completion_weights=tmp_path / "none"))
