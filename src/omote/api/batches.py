"""``omote.batch``: avatars of a folder, a list or a WebDataset of scans, with a table of what worked and why not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from omote.api.avatars import AvatarMaker, completion_of, weights_of
from omote.asset.file_settings import Compression
from omote.config import Range, check_ranges
from omote.errors import ConfigError
from omote.files import check_folder
from omote.pipelines.settings import AvatarSettings
from omote.progress import NOTE, Step, Steps, finish
from omote.runs import Stopwatch, Value, prefixed, run_facts, write_json
from omote.shards.mapping import Execution, map_shards
from omote.shards.worker import Limits, ShardStep

if TYPE_CHECKING:
    from omote.batches.rows import ScanRow
    from omote.batches.scans import ScanShard
    from omote.shards.mapping import Executor

GIB_MB = 1024
MOST_SCANS_IN_SHARD, FEWEST_SHARDS = 16, 64


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Settings of a batch.

    Attributes:
        scans_per_shard: number of scans whose avatars are made and kept together; by default a 64th of the scans, at most 16.
        threads: number of threads of each process.
        timeout_s: longest time for one scan, in seconds; its process is then ended, and the next scan begun.
        memory_gb: largest memory of a process, in GiB; beyond it, the process is ended, and the next scan begun.
        again: try scans again that failed in an earlier run.
        sheets: write a sheet of every expression beside each avatar.
        compress: quantized halves the GLB, meshopt makes it a third or less (extra: formats).
        keep_neutral: keep morph targets that move nothing, such as neutral.
    """

    scans_per_shard: Annotated[int | None, Range(1, 100_000), arg(metavar="N", help_behavior_hint="")] = None
    threads: Annotated[int, Range(1, 1024)] = 1
    timeout_s: Annotated[float, Range(1)] = 600.0
    memory_gb: Annotated[float | None, Range(0.1), arg(metavar="GB", help_behavior_hint="")] = None
    again: bool = False
    sheets: bool = False
    compress: Compression = "none"
    keep_neutral: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of a batch, including earlier runs and other parts of an array job.

    Attributes:
        out: folder of the batch.
        rows: rows of the scans that are done, in the order of the scans.
        num_scans: number of scans.
    """

    out: Path
    rows: Sequence[ScanRow]
    num_scans: int

    def summary(self) -> str:
        """The result in one line."""
        from omote.batches.rows import counted

        made, missing = sum(row.made for row in self.rows), self.num_scans - len(self.rows)
        failed = ", ".join(f"{count:,} {kind}" for kind, count in counted(self.rows).items())
        parts = [f"{made:,} avatars of {self.num_scans:,} scans"]
        parts += [f"{len(self.rows) - made:,} failed ({failed})"] if failed else []
        parts += [f"{missing:,} not done yet"] if missing else []
        return "; ".join(parts)


def batch(
    scans: Path | str,
    out: Path | str,
    settings: BatchSettings | None = None,
    avatars: AvatarSettings | None = None,
    *,
    execution: Execution | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> BatchResult:
    """Make avatars of many scans: ``shards/`` with GLBs, reports and thumbnails, ``table.csv`` and ``index.html``.

    What is done already is kept, so the same call continues a killed run. A script that calls this must guard its main part
    (``if __name__ == "__main__"``).

    Args:
        scans: folder of scans, RGB-D frames or tars of a WebDataset; a list with a path per line; or a tar.
        out: folder of the results, made if missing.
        settings: settings of the batch; if None, the defaults of `BatchSettings`.
        avatars: settings of the avatars; if None, the defaults of `AvatarSettings`.
        execution: where avatars are made; if None, in a process per core.
        on_step: function called with each step.

    Raises:
        ConfigError: no scans; landmarks, which belong to a single scan; or settings as in `omote.avatar`.
        OutputError: ``out`` cannot be written, or holds avatars of other settings.
        HeadModelError, CheckpointError: a head or weights that do not load.
        WorkerError: a process died before its first scan.
    """
    work = _batch(
        Path(scans), Path(out), settings or BatchSettings(), avatars or AvatarSettings(), execution or Execution()
    )
    return finish(work, on_step)


def _batch(
    source: Path, out: Path, settings: BatchSettings, avatars: AvatarSettings, execution: Execution
) -> Steps[BatchResult]:
    if avatars.landmarks is not None:
        raise ConfigError("landmarks belong to one scan; make its avatar with `omote avatar`")
    check_folder(out)
    memory_mb = None if settings.memory_gb is None else settings.memory_gb * GIB_MB
    place = execution.place(Limits(cores=settings.threads, item_s=settings.timeout_s, memory_mb=memory_mb))
    if settings.compress != "none":
        from omote.asset.glb import check_compression

        check_compression(settings.compress)

    from omote.batches.scans import claim, find_scans, root_of

    watch = Stopwatch()
    yield Step(stage="find")
    found, left_out = find_scans(source, out)
    for suffix, count in left_out.items():
        yield Step(stage=NOTE, note=f"{count:,} {suffix} files are left out; name scans among them in a list")
    kept = _claimed(settings, avatars)
    # Not by the number of processes: any number of them makes the same shards.
    per_shard = settings.scans_per_shard or max(1, min(MOST_SCANS_IN_SHARD, len(found) // FEWEST_SHARDS))
    shards = claim(out, found, kept, per_shard)
    made = partial(AvatarMaker, avatars)
    try:
        yield from _made(made, root_of(source), out, settings, shards, place)
    finally:  # what is done is shown, whatever ends the rest
        result = _written(out, shards, {**prefixed("settings", kept), **run_facts(watch)})
    return result


def _claimed(settings: BatchSettings, avatars: AvatarSettings) -> dict[str, Value]:
    """What the avatars depend on, and their folder is claimed for."""
    from omote.rgbd.weights import fingerprint

    wanted = avatars.wanted()
    asked = {
        **vars(avatars),
        "expressions": [expression.name for expression in wanted],
        "intensity": [expression.intensity for expression in wanted],
        "head": avatars.head if isinstance(avatars.head, Path) else getattr(avatars.head, "name", "shipped"),
        "weights": fingerprint(weights_of(avatars)),
        "completion_weights": fingerprint(completion_of(avatars)[1]),
    }
    files = {"sheets": settings.sheets, "compress": settings.compress, "keep_neutral": settings.keep_neutral}
    return {**prefixed("avatar", asked), **prefixed("file", files)}


def _made(
    made: Callable[[], AvatarMaker],
    root: Path,
    out: Path,
    settings: BatchSettings,
    shards: Sequence[ScanShard],
    place: Executor,
) -> Steps[None]:
    """Make the shards that are not done, yielding how many scans are."""
    from omote.batches.make import AvatarShards, reopen, shard_path
    from omote.batches.rows import DONE, counted

    function = AvatarShards(
        root=root,
        out=out,
        open_maker=made,
        compress=settings.compress,
        keep_neutral=settings.keep_neutral,
        sheets=settings.sheets,
    )
    if settings.again:
        for number in place.share(len(shards)):
            reopen(out, shards[number])
    done = {shard.number for shard in shards if (shard_path(out, shard) / DONE).exists()}
    mine = {number: len(shards[number].scans) for number in place.share(len(shards))}
    tally = _Tally(sum(mine.values()), {number: count for number, count in mine.items() if number in done})
    yield tally.step()
    held = 0
    for event in map_shards(function, shards, place, skip=done):
        if isinstance(event, ShardStep):
            yield from tally.seen(event)
        elif event.result is None:
            held += len(shards[event.index].scans)
        else:
            yield tally.add(event.index, len(event.result), counted(event.result))
    if held:
        yield Step(stage=NOTE, note=f"{held:,} scans are being made by another process")


class _Tally:
    """Live counts: scans done, rate, and failures by kind.

    Args:
        total: number of scans.
        done: number of scans of each shard that an earlier run has done.
    """

    def __init__(self, total: int, done: Mapping[int, int]) -> None:
        self._total, self._done = total, dict(done)
        self._failures: dict[int, Counter[str]] = {}
        self._start: float | None = None  # when the first worker had loaded
        self._before = 0

    def add(self, shard: int, count: int, failures: Mapping[str, int]) -> Step:
        """Count a whole shard."""
        self._done[shard], self._failures[shard] = count, Counter(failures)
        self._begin()  # where no steps come
        return self.step()

    def seen(self, event: ShardStep) -> Iterator[Step]:
        """Count a scan of a shard that is being made."""
        from omote.batches.make import FAILED, MADE

        self._begin()
        if event.step.stage == FAILED and event.step.done >= self._done.get(event.index, 0):
            self._failures.setdefault(event.index, Counter())[event.step.note] += 1
        if event.step.stage in (MADE, FAILED):
            self._done[event.index] = max(self._done.get(event.index, 0), event.step.done + 1)
            yield self.step()

    def step(self) -> Step:
        """The counts as a step."""
        notes = []
        count = self._count() - self._before
        if self._start is not None and count and (seconds := time.monotonic() - self._start) > 0:
            notes.append(f"{3600 * count / seconds:,.0f} scans/h")
        failures = sum(self._failures.values(), Counter())
        if failures:
            kinds = ", ".join(f"{kind} {number:,}" for kind, number in failures.most_common())
            notes.append(f"{failures.total():,} failed: {kinds}")
        return Step(stage="avatars", done=self._count(), total=self._total, note="; ".join(notes))

    def _begin(self) -> None:
        if self._start is None:
            self._start, self._before = time.monotonic(), self._count()

    def _count(self) -> int:
        return sum(self._done.values())


def _written(out: Path, shards: Sequence[ScanShard], facts: dict[str, Value]) -> BatchResult:
    """Write the table, the page and the facts of all shards that are done; of several processes, the last writes them all."""
    from filelock import FileLock

    from omote.batches.make import finished_rows
    from omote.batches.page import write_page
    from omote.batches.rows import counted, write_table

    with FileLock(out / ".results.lock"):
        rows = [row for shard in shards for row in finished_rows(out, shard) or ()]
        count = sum(len(shard.scans) for shard in shards)
        result = BatchResult(out=out, rows=rows, num_scans=count)
        write_table(rows, out)
        write_page(rows, out, missing=count - len(rows))
        counts = {"count/scans": count, "count/avatars": sum(row.made for row in rows)}
        kinds = {f"count/failed_{kind.replace(' ', '_')}": number for kind, number in counted(rows).items()}
        write_json({**counts, **kinds, **facts}, out / "run.json")
    return result
