"""Run commands with every connection and name refused and a clean home: ``make reach`` runs all of them and prints a table."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = """
import sys
from omote.cli.main import main
for command in sys.argv[1:]:
    code = main(command.split())
    if code:
        sys.exit(f"{command}: {code}")
"""
# In this order: each takes what those before it made. Options make them short.
COMMANDS = {
    "demo": "demo --out demo --backend openvino",
    "avatar": "avatar demo/scan --out a.glb --sheet a.png --report a.json",
    "fit": "fit demo/scan --out fitted.ply --report fit.json",
    "render": "render demo/scan --out image",
    "reconstruct": "reconstruct demo/scan --out reconstructed",
    "sample": "sample --out sampled --count 1",
    "population": "population --out runs/population --persons 2 --images 7 --workers 1",
    "data": "data check scans",
    "encode": "encode runs/population --out runs/encoded",
    "train": "train autoencoder-tiny --run runs/autoencoder --set engine.total_images=32",
    "evaluate": "evaluate population --out measured --persons 1",
    "report": "report results --out report.html",
    "study": "study intensity --out intensity --persons 1",
    "train images": "train image-autoencoder-tiny --run runs/images --set engine.total_images=16 images=packed",
    "tool": "tool landmarks --run runs/landmarks --steps 2",
    "info": "info",
}


def guarded(folder: Path, program: str, *arguments: str, check: bool = True) -> tuple[list[list[str]], set[str], str]:
    """Run a program in a folder with an empty home.

    Returns:
        What it tried to reach, the files that it wrote elsewhere, and its last line on standard error if it failed.
    """
    places = {name: folder / name for name in ("home", "temporary", "work")}
    for place in places.values():
        place.mkdir(exist_ok=True)
    log = folder / "log"
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "OMOTE_JUDGES") if name in os.environ}
    environment |= {"HOME": str(places["home"]), "TMPDIR": str(places["temporary"]), "GUARD_LOG": str(log)}
    guard = HERE.parent / "helpers/guard"
    environment["PYTHONPATH"] = os.pathsep.join([str(guard), *(p for p in sys.path if p.endswith("src"))])
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=places["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    tried = [line.split("\t", 1) for line in log.read_text().splitlines()]
    allowed = (str(places["work"]), str(places["temporary"]), "/dev/")
    written = {where for what, where in tried if what == "write" and not where.startswith(allowed)}
    found = {str(path) for path in places["home"].rglob("*") if path.is_file()}
    elsewhere = {path for path in written | found if "__pycache__" not in path}
    failed = (done.stderr.strip().splitlines() or ["?"])[-1] if done.returncode else ""
    return [line for line in tried if line[0] != "write"], elsewhere, failed


def main() -> int:
    sys.path.insert(0, str(HERE.parent / "helpers"))
    from dataset_folders import FOLDERS
    from results import write_results

    attempts = 0
    with tempfile.TemporaryDirectory(prefix="omote-reach-") as root:
        folder = Path(root)
        write_results(folder / "work/results", num_persons=3)
        FOLDERS["generic"](folder / "work/scans")
        print(f"{'command':<14}{'attempts':>9}{'files elsewhere':>17}")
        for name, command in COMMANDS.items():
            (folder / "log").unlink(missing_ok=True)
            tried, elsewhere, failed = guarded(folder, PROGRAM, command, check=False)
            attempts += len(tried) + len(elsewhere)
            print(f"{name:<14}{len(tried):>9}{len(elsewhere):>17}  {failed[:100]}", flush=True)
    return 1 if attempts else 0


if __name__ == "__main__":
    sys.exit(main())
