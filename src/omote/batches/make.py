"""One shard of avatars: a folder that appears whole, with its rows in ``_done``.

    shards/.00003.partial/  000048-anna.glb  000048-anna.json  000048-anna.jpg  000048-anna.row …     →  shards/00003/

A scan's row is written after its files, so what a killed process has finished is not made again.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from omote.asset.file_settings import Compression
from omote.batches.picture import write_picture
from omote.batches.rows import DONE, ScanRow, failed_row, made_row, read_rows, write_rows
from omote.batches.scans import ScanRef, ScanShard
from omote.errors import AlignmentError, OmoteError, ScanError
from omote.files import held, make_folder
from omote.pipelines.result import AvatarOutputs, AvatarResult
from omote.progress import Step, Steps, finish
from omote.quiet import calm_libraries
from omote.shards.worker import Loss

SHARD_FOLDER = "shards"
MADE, FAILED = "made", "failed"  # stages of the step after a scan
LONGEST_STEM = 60
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Maker(Protocol):
    """Makes avatars with networks that it keeps."""

    def load(self) -> None:
        """Load the networks."""
        ...

    def __call__(self, scan: Path) -> Steps[AvatarResult]:
        """The avatar of a scan."""
        ...


@dataclass(kw_only=True)
class AvatarShards:
    """Makes shards of avatars (`omote.shards.mapping`).

    Attributes:
        root: folder that the scans' paths are relative to.
        out: folder of the batch.
        open_maker: function that opens what makes the avatars, called once per process.
        compress: compression of the GLB.
        keep_neutral: whether morph targets that move nothing are kept.
        sheets: whether a sheet of every expression is written too.
    """

    root: Path
    out: Path
    open_maker: Callable[[], Maker]
    compress: Compression = "none"
    keep_neutral: bool = False
    sheets: bool = False
    _maker: Any = field(default=None, repr=False)

    def __call__(self, shard: ScanShard, lost: Mapping[int, Loss]) -> Steps[list[ScanRow] | None]:
        """Make the avatars of a shard.

        Returns:
            The rows of its scans; None if another process is making it.

        Raises:
            OmoteError: the networks do not load, or the disk is full.
        """
        folder = shard_path(self.out, shard)
        if (folder / DONE).exists():
            return read_rows(folder / DONE)
        with _held(folder) as mine:
            if not mine:
                return None
            if not (folder / DONE).exists():
                if self._maker is None:
                    calm_libraries()
                    maker = self.open_maker()
                    maker.load()
                    self._maker = maker
                yield from self._filled(shard, folder, lost)
        return read_rows(folder / DONE)

    def _filled(self, shard: ScanShard, folder: Path, lost: Mapping[int, Loss]) -> Steps[None]:
        partial = _partial(folder)
        make_folder(partial)
        rows = []
        if not (partial / DONE).exists():
            for left in partial.glob(".*"):  # of a killed process
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for index, scan in enumerate(shard.scans):
                yield Step(stage="avatar", done=index, total=len(shard.scans), note=scan.name)
                rows.append(self._row(scan, _stem(shard, index), partial, folder, lost.get(index)))
                stage, note = (MADE, "") if rows[-1].made else (FAILED, rows[-1].kind)
                yield Step(stage=stage, done=index, total=len(shard.scans), note=note)
            write_rows(partial / DONE, rows)
        for path in partial.glob("*.row"):
            path.unlink()
        if folder.exists():  # without rows: somebody has deleted them
            shutil.rmtree(folder)
        partial.rename(folder)

    def _row(self, scan: ScanRef, stem: str, partial: Path, folder: Path, loss: Loss | None) -> ScanRow:
        kept = partial / f"{stem}.row"
        if kept.exists():
            return read_rows(kept)[0]
        try:
            row = failed_row(scan.name, loss) if loss is not None else self._made(scan, stem, partial, folder)
        except (ScanError, AlignmentError, MemoryError) as error:
            row = failed_row(scan.name, error)
        except OmoteError:
            raise  # of the batch, not of the scan: networks that are missing, or nowhere to write
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise
            row = failed_row(scan.name, error)
        if not row.made:
            for path in partial.glob(f"{stem}.*"):
                path.unlink()
        write_rows(kept, [row])
        return row

    def _made(self, scan: ScanRef, stem: str, partial: Path, folder: Path) -> ScanRow:
        with scan.opened(self.root, partial) as path:
            result = finish(self._maker(path))
        files = {suffix: partial / f"{stem}{suffix}" for suffix in (".glb", ".json", ".png", ".jpg")}
        outputs = AvatarOutputs(
            glb=files[".glb"],
            report=files[".json"],
            sheet=files[".png"] if self.sheets else None,
            compress=self.compress,
            keep_neutral=self.keep_neutral,
        )
        finish(result.saving(outputs))
        write_picture(files[".jpg"], files[".glb"], result.source, result.generated)
        names = {suffix: f"{folder.parent.name}/{folder.name}/{file.name}" for suffix, file in files.items()}
        facts = {**result.facts, "output/glb_bytes": files[".glb"].stat().st_size}
        return made_row(scan.name, facts, avatar=names[".glb"], report=names[".json"], picture=names[".jpg"])


def shard_path(out: Path, shard: ScanShard) -> Path:
    """Folder of a shard."""
    return out / SHARD_FOLDER / shard.name


def finished_rows(out: Path, shard: ScanShard) -> list[ScanRow] | None:
    """Rows of a shard that is done; None if it is not.

    Raises:
        OutputError: its rows are damaged.
    """
    path = shard_path(out, shard) / DONE
    return read_rows(path) if path.exists() else None


def reopen(out: Path, shard: ScanShard) -> bool:
    """Make a finished shard unfinished again if scans of it failed, so that these are tried again.

    Returns:
        Whether it is unfinished now.

    Raises:
        OutputError: its rows are damaged, or the folder cannot be written.
    """
    folder = shard_path(out, shard)
    rows = finished_rows(out, shard)
    if rows is None or all(row.made for row in rows):
        return False
    with _held(folder) as mine:
        if not mine:
            return False
        partial = _partial(folder)
        shutil.rmtree(partial, ignore_errors=True)
        folder.rename(partial)  # with its rows: killed now, it is as it was
        for index, row in enumerate(rows):
            if row.made:
                write_rows(partial / f"{_stem(shard, index)}.row", [row])
        (partial / DONE).unlink()
    return True


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether this process alone makes the shard; a killed process releases it."""
    make_folder(folder.parent)
    with held(folder.with_name(f".{folder.name}.lock")) as mine:
        yield mine


def _partial(folder: Path) -> Path:
    """Folder of a shard that is not done."""
    return folder.with_name(f".{folder.name}.partial")


def _stem(shard: ScanShard, index: int) -> str:
    """Name of a scan's files."""
    return f"{shard.first + index:06d}-{_slug(shard.scans[index])}"


def _slug(scan: ScanRef) -> str:
    """A part of the scan's name that any file system takes."""
    stem = scan.key or str(Path(scan.path).with_suffix(""))
    return re.sub(r"\W+", "-", stem).strip("-")[-LONGEST_STEM:] or "scan"
