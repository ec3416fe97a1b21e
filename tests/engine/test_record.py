"""``config.json`` says what the weights were trained with; what changed on the way is kept with the images seen by then."""

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from line_task import LineTask, config
from omote.engine.loop import EngineConfig, train
from omote.engine.record import MAY_CHANGE
from omote.errors import ConfigError, OutputError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """With a path and a setting of its own."""

    engine: EngineConfig
    population: Path = Path("somewhere/population")
    channels: tuple[int, ...] = (1,)


def trained(run, **changes):
    """Train, or go on; ``engine`` values by their names, others of `Recipe`."""
    own = {key: changes.pop(key) for key in ("population", "channels") if key in changes}
    engine = config(**{"total": 80, **changes})
    return list(train(LineTask(), engine, run, Recipe(engine=engine, **own)))


def told(run, name="config.json"):
    return json.loads((run / name).read_text())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.5}, r"engine.learning_rate=0.05 \(got 0.5\)"),
        ({"seed": 1}, r"engine.seed=0 \(got 1\)"),
        ({"batch_size": 4}, "engine.batch_size=8"),
        ({"more_ema_images": (40,)}, r"engine.more_ema_images=\[\] \(got \[40\]\)"),
        ({"channels": (2, 2)}, r"channels=\[1\]"),
        ({"population": Path("somewhere/others")}, "population="),
        ({"seed": 1, "momentum": 0.8, "weight_decay": 0.0, "clip_norm": 2.0}, "and 1 more"),
    ],
)
@pytest.mark.parametrize("total", [80, 160])
def test_other_settings_on_an_old_run_are_refused_and_its_config_stays(tmp_path, changes, named, total):
    trained(tmp_path)
    before = told(tmp_path)
    with pytest.raises(ConfigError, match=named) as error:
        trained(tmp_path, **{"total": total, **changes})
    assert "\n" not in str(error.value)
    assert told(tmp_path) == before


def test_what_may_change_is_kept_with_the_images_seen(tmp_path):
    trained(tmp_path)
    assert not (tmp_path / "changes.json").exists()
    trained(tmp_path, total=160, log_images=40)
    trained(tmp_path, total=240, log_images=40)
    assert told(tmp_path)["engine"]["total_images"] == 240
    assert [(c["images"], c["key"], c["old"], c["new"]) for c in told(tmp_path, "changes.json")] == [
        (80, "engine.total_images", 80, 160),
        (80, "engine.log_images", 8, 40),
        (160, "engine.total_images", 160, 240),
    ]


def test_a_finished_run_keeps_the_config_it_was_trained_with(tmp_path):
    trained(tmp_path)
    before = told(tmp_path)
    assert trained(tmp_path, total=40) == []
    assert told(tmp_path) == before
    assert not (tmp_path / "changes.json").exists()


def test_a_run_that_has_learned_nothing_yet_takes_any_settings(tmp_path):
    # It ends before its first checkpoint.
    engine = config(learning_rate=0.5)
    next(train(LineTask(), engine, tmp_path, Recipe(engine=engine)))
    assert told(tmp_path)["engine"]["learning_rate"] == 0.5
    trained(tmp_path)
    assert told(tmp_path)["engine"]["learning_rate"] == 0.05


def test_data_that_was_moved_is_the_same_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(Path("run"))
    trained(Path("run"), total=160, population=Path("elsewhere/population"))
    moved = told(Path("run"), "changes.json")[1]
    assert (moved["key"], moved["old"], moved["new"]) == ("population", "somewhere/population", "elsewhere/population")
    # The same place by another name is no change; while the old one exists, another is other data.
    Path("elsewhere/population").mkdir(parents=True)
    trained(Path("run"), total=240, population=tmp_path / "elsewhere/population")
    assert len(told(Path("run"), "changes.json")) == 3
    with pytest.raises(ConfigError, match="population"):
        trained(Path("run"), total=320, population=Path("third/population"))


def test_the_recorded_engine_is_the_one_that_ran(tmp_path):
    engine = config(total=80)
    list(train(LineTask(), engine, tmp_path, Recipe(engine=config(total=8000))))
    assert told(tmp_path)["engine"]["total_images"] == 80


def test_what_may_change_exists():
    assert {
        key.removeprefix("engine.") for key in MAY_CHANGE - {"allow_pipe"}
    } <= EngineConfig.__dataclass_fields__.keys()


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_free(tmp_path):
    engine = config(total=80)
    stream = train(LineTask(), engine, tmp_path, Recipe(engine=engine))
    next(stream)
    with pytest.raises(OutputError, match="another process is at work there") as error:
        trained(tmp_path)
    assert "\n" not in str(error.value)
    stream.close()
    trained(tmp_path)

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv()
    with pytest.raises(OutputError, match="another process"):
        trained(tmp_path, total=160)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert trained(tmp_path, total=160)[-1].images == 160


def _hold(run, connection):
    from omote.files import locked

    with locked(run):
        connection.send(True)
        connection.recv()
