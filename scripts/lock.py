"""``make lock``: lock the packages of ``make install`` for every Python and platform, with the hashes of all published files.

uv resolves pyproject.toml and keeps the versions that the locks have; ``--upgrade`` takes the newest. torch is in no lock, nor
are the CUDA libraries of some of its builds: which build fits a machine is for pip's own configuration to say, and each has other
hashes. Its version is the group ``torch`` of pyproject.toml. Libraries of compressed scans have a lock of their own, since not
every platform has them, and so has what ``make docs`` adds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK, FORMATS = ROOT / "requirements.lock", ROOT / "requirements-formats.lock"
DOCS = ROOT / "requirements-docs.lock"
EXTRAS = ("openvino", "train", "judges", "sd", "studio", "parquet")
BESIDE_TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
HEAD = "# Written by `make lock`; pip install --require-hashes --no-deps -r {}\n"


def compiled(out: Path, *arguments: str) -> dict[str, str]:
    """Resolve pyproject.toml into a file, and return its pins: lines by name and marker."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--output-file", str(out), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    blocks = re.split(r"^(?=\S)", out.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {block.partition(" \\")[0]: block for block in blocks if "==" in block}
    return {pin: block for pin, block in named.items() if not BESIDE_TORCH.fullmatch(pin.partition("==")[0])}


def main() -> None:
    text = re.search(r"^text = \[(.*)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert text is not None
    *readers, weights = re.findall(r'"(.*?)"', text[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for lock in (LOCK, FORMATS, DOCS):
            if lock.exists():  # the versions in it are preferred
                (folder / lock.name).write_bytes(lock.read_bytes())
        (folder / "readers.in").write_text("\n".join(readers))
        (folder / "weights.in").write_text(weights)
        project = ["pyproject.toml", str(folder / "readers.in"), "--group", "dev", "--group", "torch", *sys.argv[1:]]
        project += [f"--extra={extra}" for extra in EXTRAS]
        base = compiled(folder / LOCK.name, *project)
        every = compiled(folder / FORMATS.name, *project, "--extra=formats", "--constraints", str(folder / LOCK.name))
        site = compiled(folder / DOCS.name, *project, "--group=docs", "--constraints", str(folder / LOCK.name))
        base |= compiled(folder / "weights.out", str(folder / "weights.in"), "--no-deps")
    formats = {pin: block for pin, block in every.items() if pin not in base}
    docs = {pin: block for pin, block in site.items() if pin not in base}
    for lock, pins in ((LOCK, base), (FORMATS, formats), (DOCS, docs)):
        lock.write_text(HEAD.format(lock.name) + "".join(pins[pin] for pin in sorted(pins)), encoding="utf-8")


if __name__ == "__main__":
    main()
