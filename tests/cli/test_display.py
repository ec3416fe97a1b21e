"""Progress is drawn on a terminal, one line a stage, and nowhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from omote.cli.display import Display
from omote.progress import NOTE, Step, finish


def work():
    yield Step(stage="read")
    for done in range(3):
        yield Step(stage="diffuse", done=done, total=3, note=f"[bold] {done}")
    yield Step(stage="write")
    return 42


def drawn(*, terminal: bool) -> str:
    file = io.StringIO()
    with Display(Console(file=file, force_terminal=terminal, width=100)) as display:
        assert finish(work(), display) == 42
    return file.getvalue()


def test_every_stage_is_drawn_and_finished_on_a_terminal() -> None:
    text = drawn(terminal=True)
    assert "[bold]" in text
    assert all(stage in text for stage in ("read", "diffuse", "write"))
    assert "3/3" in text
    assert text.rpartition("read")[2].count("✓") == 2  # the last drawing: all three are done


def test_nothing_is_drawn_into_a_file() -> None:
    assert drawn(terminal=False) == ""


def test_an_error_passes_through_and_stops_the_drawing() -> None:
    file = io.StringIO()

    def fail() -> None:
        with Display(Console(file=file, force_terminal=True)) as display:
            display(Step(stage="align"))
            raise ValueError("no face")

    with pytest.raises(ValueError, match="no face"):
        fail()
    assert "\x1b[?25h" in file.getvalue()  # the cursor is back
    assert "✓" not in file.getvalue()


def test_work_without_an_audience_gives_its_result() -> None:
    assert finish(work()) == 42


@pytest.mark.parametrize("terminal", [True, False])
def test_a_note_is_one_line_on_a_terminal_and_in_a_file(terminal: bool) -> None:
    file = io.StringIO()
    note = "a note that is longer than the terminal is wide, [bold] and all of it on one line: " + "x" * 60
    with Display(Console(file=file, force_terminal=terminal, width=60)) as display:
        display(Step(stage="read"))
        display(Step(stage=NOTE, note=note))
        display(Step(stage="write"))
    assert f"note: {note}\n" in file.getvalue()


def test_time_left_in_all_follows_from_the_stages_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("omote.cli.display.time.monotonic", lambda: now[0])
    display = Display(Console(file=io.StringIO()), stages={"read": 1.0, "align": 2.0, "write": 1.0})
    display(Step(stage="read"))
    assert display.end is None  # nothing is known yet
    now[0] += 2.0
    display(Step(stage="align"))
    assert display.end == pytest.approx(102.0 + 6.0)  # a quarter took 2 s
    now[0] += 2.0
    display(Step(stage="align", done=1, total=2))
    assert display.end == pytest.approx(104.0 + 4.0)


def test_a_log_gets_a_line_a_minute_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, file = [0.0], io.StringIO()
    monkeypatch.setattr("omote.cli.display.time.monotonic", lambda: now[0])
    with Display(Console(file=file, width=60)) as display:
        for done in range(100):
            display(Step(stage="avatars", done=done + 50, total=250, note="2 failed: no face 2"))
            now[0] += 10.0
    lines = file.getvalue().splitlines()
    assert lines[0] == "avatars: 56 of 250, 0:01:00 gone, 0:32:20 left; 2 failed: no face 2"
    assert len(lines) == 16
