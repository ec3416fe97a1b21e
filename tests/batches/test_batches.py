"""Batches: every scan becomes an avatar or a reason, whatever breaks, wherever it runs, and however often it is killed."""

from __future__ import annotations

import csv
import functools
import importlib.util
import io
import json
import os
import random
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from batch_makers import TextMaker
from kills import Job, digests, survive_kills, undisturbed
from omote import api
from omote.api import BatchSettings, Execution
from omote.batches.make import AvatarShards, shard_path
from omote.batches.rows import read_rows
from omote.batches.scans import claim, find_scans
from omote.errors import CheckpointError, ConfigError, OutputError, ScanError
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step
from omote.shards.mapping import Executor
from omote.shards.worker import Limits

pytestmark = pytest.mark.early

GOOD = {"anna.ply": "1", "ben/scan.obj": "2", "cleo.xyz": "5"}
BROKEN = {
    "a <img src=x onerror=alert(1)>.ply": "junk",
    "crash.ply": "segfault",
    "=cmd.ply": "no face",
    "odd.stl": "defect",
    "slow.ply": "hang",
}
HARMLESS = {name: text for name, text in BROKEN.items() if text not in ("segfault", "hang")}
LIMIT_S = 10.0  # a scan takes a tenth of a second, after all imports: room for a slow and busy machine
KINDS = {"unreadable": 1, "crash": 1, "no face": 1, "defect": 1, "time limit": 1}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make `api.batch` use the maker that needs no networks; gives its log."""
    log = tmp_path / "made.log"
    monkeypatch.setattr("omote.api.batches.AvatarMaker", functools.partial(_maker, log))
    return log


def _maker(log: Path, settings: AvatarSettings) -> TextMaker:
    return TextMaker(log=log, broken=settings.seed == 99)


class InThisProcess(Execution):
    """For what does not depend on processes, whose start takes seconds."""

    def place(self, limits: Limits | None = None, *, alone: bool = False) -> Executor:
        return super().place(limits, alone=True)


def run(scans: Path, out: Path, *, workers: int = 0, **options: Any) -> api.BatchResult:
    execution = options.pop("execution", Execution(workers=workers) if workers else InThisProcess(workers=1))
    avatars = options.pop("avatars", None)
    # Short where a scan runs into the limit; on a busy machine, others take seconds too.
    limit_s = LIMIT_S if (scans / "slow.ply").exists() else 60.0
    return api.batch(scans, out, BatchSettings(timeout_s=limit_s, **options), avatars, execution=execution)


results = digests("shards/*/*", "shards/*/_done", "table.*", "index.html", "shards.json", without=r"^time_s")


def test_broken_scans_among_good_ones_are_rows_with_reasons(tmp_path: Path, maker: Path) -> None:
    scans = write(tmp_path / "scans", {**GOOD, **BROKEN, "notes.txt": "words"})
    seen: list[Step] = []
    found = api.batch(
        scans, tmp_path / "out", BatchSettings(timeout_s=LIMIT_S), execution=Execution(workers=2), on_step=seen.append
    )
    assert found.summary().startswith("3 avatars of 8 scans; 5 failed (")
    rows = {row.scan: row for row in found.rows}
    assert {row.kind: 1 for row in found.rows if not row.made} == KINDS
    assert rows["crash.ply"].reason == "the process was ended by SIGSEGV"
    assert rows["slow.ply"].reason == f"not done after {LIMIT_S:g} s"
    assert re.fullmatch(r"IndexError: list index out of range \(batch_makers.py, line \d+\)", rows["odd.stl"].reason)
    for name in GOOD:
        row = rows[name]
        assert (tmp_path / "out" / row.avatar).read_bytes()[:4] == b"glTF"
        assert (tmp_path / "out" / row.picture).read_bytes()[:2] == b"\xff\xd8"
        assert json.loads((tmp_path / "out" / row.report).read_text())["align/unit"] == "mm"
        assert (row.confidence, row.median_mm, row.doubtful) == (0.9877, 0.1235, name == "cleo.xyz")
    assert [step.note for step in seen if step.stage == "note"] == [
        "1 .txt files are left out; name scans among them in a list"
    ]
    last = [step for step in seen if step.stage == "avatars"][-1]
    assert (last.done, last.total) == (8, 8)
    assert re.match(r"[\d,]+ scans/h; 5 failed: ", last.note)


def test_the_table_has_a_row_per_scan_and_no_formula(tmp_path: Path, maker: Path) -> None:
    scans = {**GOOD, **HARMLESS}
    run(write(tmp_path / "scans", scans), tmp_path / "out")
    with (tmp_path / "out/table.csv").open(newline="") as file:
        table = {row["scan"]: row for row in csv.DictReader(file)}
    assert len(table) == len(scans)
    assert table["anna.ply"]["made"] == "yes"
    assert table["'=cmd.ply"]["kind"] == "no face"
    if importlib.util.find_spec("pyarrow") is not None:
        from pyarrow import parquet

        rows = parquet.read_table(tmp_path / "out/table.parquet").to_pylist()
        assert {row["scan"]: row["made"] for row in rows} == {name: name in GOOD for name in scans}


def test_any_number_of_processes_and_parts_write_the_same_bytes(tmp_path: Path, maker: Path) -> None:
    scans = write(tmp_path / "scans", {**GOOD, **{f"more_{k}.ply": str(k) for k in range(3)}, "bad.ply": "junk"})
    run(scans, tmp_path / "here", scans_per_shard=2)
    run(scans, tmp_path / "two", workers=2, scans_per_shard=2)
    for rank in (2, 0, 1):
        part = run(scans, tmp_path / "parts", scans_per_shard=2, execution=InThisProcess(workers=1, rank=rank, world=3))
    assert part.summary() == "6 avatars of 7 scans; 1 failed (1 unreadable)"
    whole = results(tmp_path / "here")
    assert len(whole) > 8
    assert results(tmp_path / "two") == whole
    assert results(tmp_path / "parts") == whole


def test_twice_is_harmless_and_new_scans_join(tmp_path: Path, maker: Path) -> None:
    scans, out = write(tmp_path / "scans", GOOD), tmp_path / "out"
    run(scans, out)
    before = results(out)
    run(scans, out)
    assert results(out) == before
    assert len(maker.read_text().splitlines()) == 3
    write(scans, {"aaa.ply": "7"})
    assert len(run(scans, out).rows) == 4
    assert maker.read_text().splitlines()[3:] == ["aaa.ply"]
    assert {name: digest for name, digest in results(out).items() if name in before and "shards/" in name} == {
        name: digest for name, digest in before.items() if "shards/" in name
    }


def test_failed_scans_are_tried_again_when_asked_and_the_others_kept(tmp_path: Path, maker: Path) -> None:
    scans, out = write(tmp_path / "scans", {**GOOD, "bad.ply": "junk"}), tmp_path / "out"
    assert run(scans, out, scans_per_shard=4).summary() == "3 avatars of 4 scans; 1 failed (1 unreadable)"
    before = results(out)
    run(scans, out, scans_per_shard=4, again=True)
    assert results(out) == before
    (scans / "bad.ply").write_text("8")
    assert run(scans, out, scans_per_shard=4).summary().startswith("3 avatars")
    assert run(scans, out, scans_per_shard=4, again=True).summary() == "4 avatars of 4 scans"
    assert maker.read_text().split() == ["anna.ply", "bad.ply", "scan.obj", "cleo.xyz", "bad.ply", "bad.ply"]
    assert not list(out.glob("shards/.*"))


def test_other_settings_need_another_folder(tmp_path: Path, maker: Path) -> None:
    scans = write(tmp_path / "scans", {"anna.ply": "1"})
    run(scans, tmp_path / "out")
    with pytest.raises(OutputError, match=r"other settings \(avatar/seed\); give another folder"):
        run(scans, tmp_path / "out", avatars=AvatarSettings(seed=1))


def test_another_network_in_the_same_folder_is_another_setting(tmp_path: Path, maker: Path) -> None:
    scans, network = write(tmp_path / "scans", {"anna.ply": "1"}), tmp_path / "network"
    network.mkdir()
    avatars = AvatarSettings(completion="sparse", completion_weights=network)
    (network / "config.json").write_text("{}")
    for _ in range(2):
        run(scans, tmp_path / "out", avatars=avatars)
    (network / "config.json").write_text('{"side": 48}')
    with pytest.raises(OutputError, match=r"other settings \(avatar/completion_weights\)"):
        run(scans, tmp_path / "out", avatars=avatars)


def test_missing_networks_and_landmarks_stop_the_batch(tmp_path: Path, maker: Path) -> None:
    scans = write(tmp_path / "scans", GOOD)
    with pytest.raises(CheckpointError, match="train some"):
        run(scans, tmp_path / "out", avatars=AvatarSettings(seed=99))
    with pytest.raises(CheckpointError, match="no weights of --completion sparse"):
        run(scans, tmp_path / "out", avatars=AvatarSettings(completion="sparse", completion_weights=tmp_path / "gone"))
    with pytest.raises(ConfigError, match="landmarks belong to one scan"):
        run(scans, tmp_path / "out", avatars=AvatarSettings(landmarks=tmp_path / "points.json"))


def test_a_shard_that_another_process_makes_is_left_to_it(tmp_path: Path, maker: Path) -> None:
    from filelock import FileLock

    scans, out = write(tmp_path / "scans", GOOD), tmp_path / "out"
    (out / "shards").mkdir(parents=True)
    with FileLock(out / "shards/.00001.lock"):
        found = run(scans, out)
    assert found.summary() == "2 avatars of 3 scans; 1 not done yet"
    assert "1 scans are not done yet" in (out / "index.html").read_text()
    assert run(scans, out).summary() == "3 avatars of 3 scans"


def test_a_killed_process_does_not_make_finished_scans_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    scans = write(tmp_path / "scans", {f"{k}.ply": str(k) for k in range(4)})
    refs, _ = find_scans(scans, tmp_path / "out")
    (shard,) = claim(tmp_path / "out", refs, {}, 4)
    function = AvatarShards(root=scans, out=tmp_path / "out", open_maker=functools.partial(TextMaker, log=log))
    work = function(shard, {})
    for step in work:
        if step.stage == "made" and step.done == 1:
            break
    work.close()  # as if killed: two scans of four are done
    assert not shard_path(tmp_path / "out", shard).exists()
    list(function(shard, {}))
    assert log.read_text().split() == ["0.ply", "1.ply", "2.ply", "3.ply"]
    assert [row.made for row in read_rows(shard_path(tmp_path / "out", shard) / "_done")] == [True] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_random_moments_and_run_again_it_writes_the_same_bytes(tmp_path: Path) -> None:
    scans = write(tmp_path / "scans", {**{f"{k}.ply": str(k) for k in range(5)}, "bad.ply": "junk"})

    def batch(out: Path) -> int:
        api.batches.AvatarMaker = functools.partial(_maker, tmp_path / "log")  # type: ignore[attr-defined, misc]
        # In one process, which writes most of its time; one with workers is killed while they import. `make kills` kills those.
        run(scans, out, scans_per_shard=2)
        return 0

    import omote.batches.page  # noqa: F401 (before any fork)

    job = Job(run=batch, outputs=digests("shards/*/*", without=r"^time_s"))
    whole, seconds = undisturbed(job, tmp_path / "jobs/whole")
    assert len(whole) == 5 * 3 + 3
    survive_kills(job, tmp_path / "jobs/killed", whole, seconds, 3, random.Random(0))
    assert results(tmp_path / "jobs/killed") == results(tmp_path / "jobs/whole")


def test_scans_are_found_in_folders_lists_and_tars(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "scans",
        {
            **GOOD,
            "frame/intrinsics.json": "{}",
            "frame/color.ply": "x",
            ".hidden.ply": "x",
            "out/made.glb": "x",
            "a.csv": "",
        },
    )
    refs, left_out = find_scans(folder, folder / "out")
    assert [ref.path for ref in refs] == ["anna.ply", "ben/scan.obj", "cleo.xyz", "frame"]
    assert left_out == {".csv": 1}

    (folder / "list.txt").write_text("# mine\ncleo.xyz\n\nben/scan.obj\ncleo.xyz\nmissing.ply\n")
    assert [ref.path for ref in find_scans(folder / "list.txt", tmp_path)[0]] == [
        "cleo.xyz",
        "ben/scan.obj",
        "missing.ply",
    ]

    for wrong, said in (("empty", "got none"), ("no", "no such file"), ("scans/anna.ply", "takes single scans")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=said):
            find_scans(tmp_path / wrong, tmp_path / "out")


def test_samples_of_a_webdataset_are_scans_with_their_files_beside_them(tmp_path: Path, maker: Path) -> None:
    scans = tmp_path / "tars"
    scans.mkdir()
    files = {"anna.obj": "1", "anna.mtl": "newmtl", "anna.json": "{}", "sub/ben.ply": "2", "../evil.ply": "3",
             "cleo.intrinsics.json": "4", "cleo.color.png": "x", "label.json": "{}"}  # fmt: skip
    with tarfile.open(scans / "part-0.tar", "w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    (scans / "part-1.tar").write_bytes(b"no tar")
    found = run(scans, tmp_path / "out", scans_per_shard=8)
    rows = {row.scan: row for row in found.rows}
    assert {name for name, row in rows.items() if row.made} == {
        f"part-0.tar/{key}" for key in ("anna", "sub/ben", "cleo")
    }
    assert rows["part-1.tar/*"].kind == "unreadable"
    assert not list(tmp_path.rglob("evil.ply"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.log", "out", "tars"]
    (tmp_path / "part-0.tar").write_bytes((scans / "part-0.tar").read_bytes()[:2000])
    (cut,), _ = find_scans(tmp_path / "part-0.tar", tmp_path / "out")
    with pytest.raises(ScanError, match=r"part-0.tar: no whole tar"), cut.opened(tmp_path, tmp_path):
        pass


def test_the_page_shows_names_as_text_and_asks_for_nothing(tmp_path: Path, maker: Path) -> None:
    scans = write(tmp_path / "scans", {**GOOD, **HARMLESS, "<script>alert(2)<_script>.ply": "1"})
    run(scans, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    data = page.partition('id="rows">')[2].partition("</script>")[0]
    assert "<" not in data
    assert {row["scan"] for row in json.loads(data)} == {
        str(p.relative_to(scans)) for p in scans.rglob("*") if p.is_file()
    }
    assert "<img" not in page
    assert "innerHTML" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/jpeg") == len(GOOD) + 1


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_writes_the_same_bytes(tmp_path: Path, maker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import ray

    scans = write(tmp_path / "scans", {**GOOD, "bad.ply": "junk"})
    run(scans, tmp_path / "one")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in (str(Path(__file__).parent), *sys.path) if path))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        run(scans, tmp_path / "ray", execution=Execution(executor="ray"))
    finally:
        ray.shutdown()
    assert results(tmp_path / "ray") == results(tmp_path / "one")
