"""The scans of a batch: those of a folder, a list or a WebDataset, divided into shards that never change."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from omote.errors import ConfigError, OutputError, ScanError
from omote.files import atomic_path, make_folder, reading, refuse_links
from omote.formats.read import FORMATS
from omote.formats.tar_samples import FRAMES, samples, unpacked_sample
from omote.runs import Value

# In a folder, these may be anything; a list can name them.
AMBIGUOUS = (".txt", ".csv", ".json")
# Not read, but refused with the way to convert them.
FOREIGN = (".fbx", ".blend", ".dae", ".3ds", ".e57", ".las", ".laz")
LISTS = (".txt", ".list", ".lst")
TAR = ".tar"
WHOLE = "*"  # key of a tar that cannot be read
MOST_LIST_BYTES = 256 << 20
SHARDS, CLAIM = "shards.json", "batch.json"


@dataclass(frozen=True, kw_only=True)
class ScanRef:
    """A scan of a batch.

    Attributes:
        path: path of the scan, or of the tar that holds it, relative to the folder of the batch's scans.
        key: key of the sample in a tar; empty for a file.
    """

    path: str
    key: str = ""

    @property
    def name(self) -> str:
        """Name in the table; bytes of a file name that are no text are shown as escapes."""
        text = f"{self.path}/{self.key}" if self.key else self.path
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    @contextmanager
    def opened(self, root: Path, folder: Path) -> Iterator[Path]:
        """Yield the path of the scan, unpacked into ``folder`` for as long as the context is open if it is in a tar.

        Raises:
            ScanError: the tar cannot be read.
        """
        if not self.key:
            yield root / self.path
            return
        with unpacked_sample(root / self.path, self.key, folder) as path:
            yield path


@dataclass(frozen=True, kw_only=True)
class ScanShard:
    """Scans whose avatars are made and kept together.

    Attributes:
        number: number of the shard.
        first: number of its first scan in the batch.
        scans: the scans.
    """

    number: int
    first: int
    scans: tuple[ScanRef, ...]

    @property
    def name(self) -> str:
        """Name of the shard's folder."""
        return f"{self.number:05d}"


def root_of(source: Path) -> Path:
    """Folder that the scans' paths are relative to."""
    return source if source.is_dir() else source.parent


def find_scans(source: Path, out: Path) -> tuple[list[ScanRef], Mapping[str, int]]:
    """Find the scans of a batch.

    Args:
        source: folder of scans, RGB-D frames or tars of a WebDataset; a list with a path per line (``.txt``); or a tar.
        out: folder of the results, which is not searched.

    Returns:
        The scans in a fixed order, and counts of the files that were left out, by suffix.

    Raises:
        ConfigError: no scans, or a list that cannot be read.
    """
    left_out: dict[str, int] = {}
    if source.is_dir():
        found = sorted(_in_folder(source, out, left_out))
    elif source.suffix.lower() == TAR:
        found = [source.name]
    elif source.suffix.lower() in LISTS:
        found = list(dict.fromkeys(_listed(source)))
    else:
        what = "no such file or folder" if not source.exists() else "another file; `omote avatar` takes single scans"
        raise ConfigError(f"{source}: expected a folder of scans, a list (.txt) or a tar of a WebDataset, got {what}")
    root = root_of(source)
    scans = [
        ref for path in found for ref in (_in_tar(root, path) if path.lower().endswith(TAR) else [ScanRef(path=path)])
    ]
    if not scans:
        others = ", ".join(f"{count:,} {suffix}" for suffix, count in left_out.items())
        raise ConfigError(
            f"{source}: expected scans ({' '.join(s for s in FORMATS if s not in AMBIGUOUS)}), frames or tars, got "
            f"{others or 'none'}; text tables of points can be named in a list"
        )
    return scans, left_out


def _in_tar(root: Path, path: str) -> list[ScanRef]:
    try:
        return [ScanRef(path=path, key=key) for key in samples(root / path)]
    except ScanError:
        return [ScanRef(path=path, key=WHOLE)]  # it is refused again when its turn comes


def _in_folder(folder: Path, out: Path, left_out: dict[str, int]) -> Iterator[str]:
    results = os.path.realpath(out)
    for place, folders, files in os.walk(folder):
        inside = Path(place)
        if any(name in files for name in FRAMES):
            folders.clear()
            yield str(inside.relative_to(folder))
            continue
        folders[:] = sorted(f for f in folders if not f.startswith(".") and os.path.realpath(inside / f) != results)
        for name in files:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in AMBIGUOUS:
                left_out[suffix] = left_out.get(suffix, 0) + 1
            elif suffix in FORMATS or suffix in FOREIGN or suffix == TAR:
                yield str((inside / name).relative_to(folder))


def _listed(path: Path) -> Iterator[str]:
    with reading(path, ConfigError, "no list of scans", "give a path per line"):
        if path.stat().st_size > MOST_LIST_BYTES:
            raise ValueError(f"more than {MOST_LIST_BYTES:,} bytes")
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    for line in lines:
        if (text := line.strip()) and not text.startswith("#"):
            if "\0" in text:
                raise ConfigError(f"{path}: expected a path per line, got a binary file; give a list of scans")
            yield text


def claim(out: Path, scans: Iterable[ScanRef], settings: Mapping[str, Value], per_shard: int) -> list[ScanShard]:
    """Record a batch's scans and settings in its folder, and divide the scans into shards.

    Scans that are not recorded yet become new shards, so that a folder of scans may grow; those recorded stay where they are.

    Raises:
        OutputError: the folder cannot be written, or holds avatars of other settings.
    """
    from filelock import FileLock

    make_folder(out)
    refuse_links(out)
    with FileLock(out / ".claim.lock"):
        kept = out / CLAIM
        with reading(kept, OutputError, "damaged", "give another folder"):
            earlier = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else dict(settings)
        if differing := sorted(k for k in {*earlier, *settings} if earlier.get(k) != settings.get(k)):
            raise OutputError(
                f"{out}: holds avatars of other settings ({', '.join(differing)[:200]}); give another folder, or those settings"
            )
        path = out / SHARDS
        with reading(path, OutputError, "damaged", "give another folder"):
            text = path.read_text(encoding="utf-8") if path.exists() else "[]"
            divided = [[ScanRef(**ref) for ref in shard] for shard in json.loads(text)]
        known = {ref for shard in divided for ref in shard}
        new = [ref for ref in scans if ref not in known]
        divided += [new[i : i + per_shard] for i in range(0, len(new), per_shard)]
        if new:
            _write(path, [[asdict(ref) for ref in shard] for shard in divided])
        if not kept.exists():
            _write(kept, dict(settings))
    shards, first = [], 0
    for number, refs in enumerate(divided):
        shards.append(ScanShard(number=number, first=first, scans=tuple(refs)))
        first += len(refs)
    return shards


def _write(path: Path, content: object) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
