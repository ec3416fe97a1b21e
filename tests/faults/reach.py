"""Run commands with every connection and name refused and a clean home: ``make reach`` runs all of them and prints a table.

The guard is an audit hook of Python; where strace is installed, attempts of compiled libraries are counted as well.
"""

from __future__ import annotations

import os
import shutil
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
        sys.exit(code)
"""
# In this order: each takes what those before it made. Options make them short.
COMMANDS = {
    "demo": "demo --out demo --backend openvino",
    "avatar": "avatar demo/scan --out a.glb --sheet a.png --report a.json",
    "batch": "batch demo/scan --out batch --workers 1 --expressions happy",
    "fit": "fit demo/scan --out scans/anna/neutral.ply --report fit.json",
    "render": "render demo/scan --out image",
    "render front": "render demo/scan --out turn/front",
    "render side": "render demo/scan --out turn/side --yaw-deg 20",
    "fuse": "fuse turn --out fused.ply --report fuse.json",
    "reconstruct": "reconstruct demo/scan --out reconstructed",
    "population": "population --out runs/population --persons 2 --images 7 --workers 2",
    "data check": "data check scans --report check.json",
    "data render": "data render scans --split all --out rendered",
    "data pack": "data pack pictures --out paper/images --size 32",
    "encode": "encode runs/population --out runs/encoded",
    "train": "train autoencoder-tiny --run runs/autoencoder --set engine.total_images=32",
    "train decoder": "train decoder-tiny-draw --run runs/decoder --set engine.total_images=16",
    "train editor": "train editor-tiny --run runs/editor --set engine.total_images=16 draw_share=0.5 "
    "autoencoder=runs/decoder/export/autoencoder",
    "sample": "sample --weights drawing --out sampled --count 1 --steps 2",
    "train images": "train autoencoder-paper-tiny --run paper/autoencoder",
    "train generator": "train generator-paper-tiny --run paper/generator --set condition=none",
    "generate": "generate --run paper/generator --out generated --count 2 --steps 2",
    "evaluate": "evaluate population --out measured --persons 1",
    "evaluate images": "evaluate images --generated pictures --reference pictures --out compared",
    "report": "report results --out report.html",
    "study": "study intensity --out intensity --persons 1",
    "tool": "tool landmarks --run runs/landmarks --steps 2",
    "studio": "studio --no-browser --port 0 --folder studio --stop-after-s 1",
    "view": "view demo/avatar.glb --no-browser --stop-after-s 1",
    "info": "info",
    "completion": "completion bash",
}


TRACED = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]


def guarded(
    folder: Path, program: str, *arguments: str, check: bool = True, traced: bool = False
) -> tuple[list[list[str]], set[str], str]:
    """Run a program in a folder with an empty home; ``traced`` by strace, too.

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
    trace = folder / "trace"
    done = subprocess.run(
        [*([*TRACED, str(trace)] if traced else []), sys.executable, "-c", program, *arguments],
        cwd=places["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    tried = [line.split("\t", 1) for line in log.read_text().splitlines()]
    if traced:
        tried += [["connect", line] for line in trace.read_text().splitlines() if "sa_family=AF_INET" in line]
    allowed = (str(places["work"]), str(places["temporary"]), "/dev/")
    written = {where for what, where in tried if what == "write" and not where.startswith(allowed)}
    found = {str(path) for path in places["home"].rglob("*") if path.is_file()}
    elsewhere = {path for path in written | found if "__pycache__" not in path}
    failed = (done.stderr.strip().splitlines() or ["?"])[-1] if done.returncode else ""
    return [line for line in tried if line[0] != "write"], elsewhere, failed


def write_inputs(folder: Path) -> None:
    """Write the inputs that no command makes: images, results, and a dataset whose one scan ``fit`` adds."""
    sys.path.insert(0, str(HERE.parent / "helpers"))
    from image_folders import make_images
    from results import write_results

    make_images(folder / "pictures")
    write_results(folder / "results", num_persons=3)
    (folder / "scans/anna").mkdir(parents=True)
    (folder / "scans/labels.csv").write_text("path,subject,expression\nanna/neutral.ply,anna,neutral\n")


def main() -> int:
    bad, traced = 0, shutil.which("strace") is not None
    with tempfile.TemporaryDirectory(prefix="omote-reach-") as root:
        folder = Path(root)
        write_inputs(folder / "work")
        print(f"{'command':<16}{'attempts':>9}{'files elsewhere':>17}  ran to its end")
        for name, command in COMMANDS.items():
            if name == "sample":  # reads both networks from one folder
                for part in ("decoder/export/autoencoder", "editor/export/editor"):
                    shutil.copytree(folder / "work/runs" / part, folder / "work/drawing" / Path(part).name)
            (folder / "log").unlink(missing_ok=True)
            tried, elsewhere, failed = guarded(folder, PROGRAM, command, check=False, traced=traced)
            bad += len(tried) + len(elsewhere) + bool(failed)
            ending = f"no: {failed[:100]}" if failed else "yes"
            print(f"{name:<16}{len(tried):>9}{len(elsewhere):>17}  {ending}", flush=True)
    print("counted by an audit hook of Python" + (" and by strace" if traced else "; strace is not installed"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
