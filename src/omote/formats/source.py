"""A scan being read: its file and folder, its remaining budget of memory, and the notes about it.

Every file is opened here. Only regular files inside the scan's folder are opened, and anything that expands (instances,
compression, images) is claimed, before it is allocated, from a budget in proportion to the file's size.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, Literal
from urllib.parse import unquote

from omote.errors import ScanError
from omote.formats.limits import MAX_FACES, MAX_FILE_BYTES, MAX_POINTS

Goods = Literal["points", "faces", "bytes", "pixels"]
# A scan's budget: a fixed number, and more for each byte of its files. A file of 10 MB stays under 1 GB of memory.
_FREE: dict[Goods, int] = {"points": 1_500_000, "faces": 2_000_000, "bytes": 64 << 20, "pixels": 96 << 20}
_PER_BYTE: dict[Goods, float] = {"points": 0.25, "faces": 0.2, "bytes": 20.0, "pixels": 5.0}
_AT_MOST: dict[Goods, int] = {"points": MAX_POINTS, "faces": MAX_FACES, "bytes": 8 << 30, "pixels": 8 << 30}
_MAX_ENTRIES = 20_000  # largest folder that is searched for a name in another case
_MAX_NOTES = 24
# Code pages of the systems that exporters run on, stricter ones first.
_CODE_PAGES = ("utf-8", "cp932", "gb18030", "cp949", "big5", "cp1252", "cp1251", "mac_roman", "latin-1")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a FIFO, device or socket is refused before it is opened.

    Raises:
        ScanError: the path is no regular file.
        OSError: the file cannot be opened.
    """
    if stat.S_ISREG(path.stat().st_mode):
        # Non-blocking, and checked again once open: the file may have been replaced since.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    raise ScanError(f"{path}: expected a file, got a folder, device or pipe; save the scan to a file first")


def read_bounded(path: Path, most: int) -> bytes:
    """Return a file's content.

    Raises:
        ScanError: the file has more than ``most`` bytes, is no regular file, or is not readable.
    """
    try:
        with open_regular(path) as file:
            data = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)  # allocates no more than the file's size
    except OSError as error:
        raise ScanError(f"{path.name}: cannot be read ({error.strerror}); check its permissions") from error
    if len(data) > most:
        raise ScanError(f"{path.name}: expected at most {most:,} bytes, got more; make it smaller")
    return data


def shown(name: str | bytes) -> str:
    """Format a name from the file for messages: quoted, on one line, shortened."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return repr(text if len(text) <= 80 else "…" + text[-79:])


@dataclass(kw_only=True)
class Source:
    """A scan's file, and the state of reading it.

    Attributes:
        path: path of the file, for messages and to find other files beside it.
        file: binary file, open at its start.
        size: size of the file in bytes.
        paid_bytes: bytes to which the budget is proportional: the file's, or those of the archive that held it.
        in_archive: whether the archive's size already pays for the files beside the scan.
        folders: folders whose files the scan may name, the outermost first; the scan's own folder if empty.
        notes: sentences on anything that was left out or interpreted in a surprising way.
    """

    path: Path
    file: BinaryIO | BytesIO
    size: int
    paid_bytes: int
    in_archive: bool = False
    folders: tuple[Path, ...] = ()
    notes: dict[str, None] = field(default_factory=dict)
    _claimed: dict[Goods, int] = field(default_factory=dict)
    _folders: dict[Path, list[str]] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Add a sentence to the report; repeated sentences are added once."""
        if len(self.notes) < _MAX_NOTES:
            self.notes[" ".join(text.split())[:300]] = None

    def most(self, what: Goods) -> int:
        """Return how many points, faces, bytes or pixels the scan may hold."""
        return min(_AT_MOST[what], int(_FREE[what] + _PER_BYTE[what] * self.paid_bytes))

    def left(self, what: Goods) -> int:
        """Return the rest of the budget."""
        return self.most(what) - self._claimed.get(what, 0)

    def claim(self, what: Goods, count: int, *, because: str = "") -> None:
        """Take items from the budget, before they are allocated.

        Args:
            what: kind of the items.
            count: number of items.
            because: reason why there are more than the file's size suggests, for the message.

        Raises:
            ScanError: the budget is spent.
        """
        total = self._claimed.get(what, 0) + count
        most = self.most(what)
        if total > most:
            raise ScanError(
                f"{self.path.name}: expected at most {most:,} {what} from {self.paid_bytes:,} bytes, got {total:,}"
                f"{' ' + because if because else ''}; crop, thin or merge the scan first"
            )
        self._claimed[what] = total

    def pay(self, num_bytes: int) -> None:
        """Enlarge the budget by the size of another file that belongs to the scan."""
        if not self.in_archive:
            self.paid_bytes += num_bytes

    def beside(self, name: str | bytes, *, folder: Path | None = None) -> tuple[Path | None, str]:
        """Find a file that the scan names, in any case, Unicode form or code page.

        The name is not trusted. Only regular files in or below the scan's folder are found; a name that leads elsewhere (an
        absolute path, a drive, ``..``, a URL) or into a missing folder is looked up by its last part alone.

        Args:
            name: name in the scan; bytes are decoded with the first code page that finds a file.
            folder: folder that is searched before the scan's own, such as that of a material library.

        Returns:
            The file or None, and the reason if None.
        """
        root = Path(os.path.realpath(self.folders[0] if self.folders else self.path.parent))
        why = f"is not beside {self.path.name}"
        for text in _spellings(name):
            parts = [p for p in PureWindowsPath(text).parts if p not in (".", "/", "\\")]
            if not parts or parts[-1] == ".." or "\0" in text:
                continue
            strange = PureWindowsPath(text).anchor != "" or ".." in parts or "://" in text
            tails = [[parts[-1]]] if strange else [parts, [parts[-1]]]
            for start in dict.fromkeys((folder or self.path.parent, self.path.parent, *self.folders)):
                for tail in tails:
                    found = self._walk(start, tail)
                    if found is None:
                        continue
                    real = Path(os.path.realpath(found))
                    if root not in real.parents:
                        why = f"is a link that leaves the folder of {self.path.name}, which is not followed"
                    elif not real.is_file():
                        why = "is no regular file"
                    else:
                        return found, ""
        return None, why

    def read_beside(self, name: str | bytes, most: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of a file without which the scan cannot be read.

        Raises:
            ScanError: the file is missing, too large, or not readable.
        """
        found, why = self.beside(name)
        if found is None:
            raise ScanError(f"{self.path.name}: the file {shown(name)} {why}; put it there")
        data = read_bounded(found, most)
        self.pay(len(data))
        return data

    def _walk(self, folder: Path, parts: list[str]) -> Path | None:
        for part in parts:
            entry = self._entry(folder, part)
            if entry is None:
                return None
            folder = entry
        return folder

    def _entry(self, folder: Path, name: str) -> Path | None:
        try:
            if os.path.lexists(folder / name):
                return folder / name
            if folder not in self._folders:
                with os.scandir(folder) as entries:
                    self._folders[folder] = sorted(e.name for e, _ in zip(entries, range(_MAX_ENTRIES), strict=False))
        except (OSError, ValueError):  # no such folder, or a name that the system does not accept
            return None
        wanted = _folded(name)
        return next((folder / n for n in self._folders[folder] if _folded(n) == wanted), None)


def _spellings(name: str | bytes) -> Iterator[str]:
    """Yield possible decodings of a name, the likeliest first."""
    texts: dict[str, None] = {}
    if isinstance(name, str):
        texts[name] = None
    else:
        for page in _CODE_PAGES:
            try:
                texts[name.decode(page)] = None
            except UnicodeDecodeError:
                continue
    for text in list(texts):
        texts[unquote(text.removeprefix("file:///"))] = None
    for text in texts:
        yield text.strip().strip("\"'").strip()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
