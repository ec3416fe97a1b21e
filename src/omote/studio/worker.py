"""The process of one job: reads the scan in its folder and makes the avatar, telling each step as a line of JSON.

It is started by `omote.studio.workers` and ends with it: standard input stays open as long as the server lives.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omote.config import load
from omote.errors import OmoteError, in_one_line
from omote.progress import NOTE, Step, Steps
from omote.quiet import calm_libraries

ORDER = "order.json"
LARGEST_FILE = 2 << 30
MOST_OPEN_FILES = 1024
DEFECT = "omote has a defect here; the server's log says where"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is to do; written beside the scan.

    Attributes:
        request: the request, as `omote.studio.settings.JobRequest` in JSON.
        out: folder of the files to write, inside the job's.
        name: what the user calls the scan, for messages.
        consent: for the VRM.
        weights: weights of the pipeline, or None for those that omote finds.
        cpu_s: limit of processor time.
        memory_mb: limit of memory.
    """

    request: str
    out: Path
    name: str
    consent: str
    weights: Path | None
    cpu_s: int
    memory_mb: int


def main() -> int:
    """Do the job of the folder given as the only argument."""
    folder = Path(sys.argv[1])
    say = _Voice()
    _end_with_server()
    try:
        order = load(Order, folder / ORDER)
        _limit(order)
        calm_libraries()
        _do(folder, order, say)
    except BaseException as error:
        line = in_one_line(error)
        if line is None and not isinstance(error, Exception):
            raise
        kind = type(error).__name__ if isinstance(error, OmoteError) else "Defect" if line is None else "Machine"
        # On disk the scan has another name.
        say(error={"kind": kind, "line": named(line or DEFECT, folder, order.name)})
        if line is None:
            raise
    return 0


class _Voice:
    """Writes lines of JSON where the server reads; what libraries print goes to the log."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def __call__(self, **values: object) -> None:
        self._out.write(json.dumps(values) + "\n")
        self._out.flush()


def _end_with_server() -> None:
    """End this process and those that it started as soon as the server ends, however that happens."""

    def watch() -> None:
        while os.read(0, 64):
            pass
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="server", daemon=True).start()


def _limit(order: Order) -> None:
    """Limit processor time, data and files; no effect on Windows. The server watches time and memory as well."""
    try:
        import resource
    except ImportError:
        return
    limits = {
        resource.RLIMIT_CPU: order.cpu_s,
        resource.RLIMIT_FSIZE: LARGEST_FILE,
        resource.RLIMIT_NOFILE: MOST_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        limits[resource.RLIMIT_DATA] = order.memory_mb << 20
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, most))


def named(line: str, folder: Path, name: str) -> str:
    """A message with the user's name for the scan, and without the server's folders."""
    from omote.studio.uploads import scan_in

    scan = scan_in(folder)
    if scan is not None:
        line = line.replace(str(scan), name)
        # Without a suffix its name is a word of many messages.
        line = line.replace(scan.name, name) if scan.suffix else re.sub(rf"^{scan.name}:", lambda _: f"{name}:", line)
    return line.replace(f"{folder}/", "")


def _do(folder: Path, order: Order, say: _Voice) -> None:
    from omote.api.avatars import capturing, making
    from omote.asset.file_settings import VrmMeta
    from omote.config import from_json
    from omote.pipelines.result import AvatarOutputs
    from omote.studio.settings import JobRequest
    from omote.studio.uploads import scan_in

    request = from_json(JobRequest, json.loads(order.request))
    show = _Shown(order.out, say)
    if scan_in(folder) is None and request.made_up is not None:
        whole = folder / "tmp/scan"
        _finish(capturing(request.made_up, whole), show)
        whole.rename(folder / "scan")  # a process that is killed leaves no half of it
    scan = scan_in(folder)
    assert scan is not None
    settings = request.settings.for_avatar(landmarks=request.landmark_rows(), weights=order.weights)
    out = order.out
    outputs = AvatarOutputs(
        glb=out / "avatar.glb",
        vrm=out / "avatar.vrm",
        sheet=out / "sheet.png",
        report=out / "report.json",
        meta=VrmMeta(name=Path(order.name).stem, consent=order.consent),
    ).checked()
    result = _finish(making(scan, settings, own_process=True), show)
    from omote.studio.pictures import write_mask

    write_mask(result.avatar.texture_inferred, out / "inferred.png")
    show.file("inferred.png", "")
    _finish(result.saving(outputs), show)
    facts = {
        key: value for key, value in result.facts.items() if key.partition("/")[0] in ("align", "fit", "scan", "avatar")
    }
    say(done={"summary": result.summary(), "facts": facts})


def _finish(work: Steps[Any], show: _Shown) -> Any:
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            return end.value
        show(step)


class _Shown:
    """Tells steps, and writes what they have ready as files of the page."""

    def __init__(self, out: Path, say: _Voice) -> None:
        self.out, self.say = out, say
        self._images = 0

    def __call__(self, step: Step) -> None:
        if step.stage == NOTE:
            self.say(note=step.note)
            return
        self.say(step={"stage": step.stage, "done": step.done, "total": step.total, "note": step.note})
        if step.ready:
            self._write(step.ready)

    def file(self, name: str, label: str) -> None:
        self.say(file={"name": name, "label": label})

    def _write(self, ready: Mapping[str, object]) -> None:
        from omote.studio.pictures import write_picture, write_preview
        from omote.types import Mesh, PointCloud, Rgbd

        for label, value in ready.items():
            if label == "scan" and isinstance(value, Mesh | PointCloud | Rgbd):
                write_preview(value, self.out / "preview.glb")
                self.say(scan=_scan_facts(value))
                self.file("preview.glb", "")
            elif isinstance(value, Rgbd):
                name = "source.png" if label == "source" else f"image-{self._images}.png"
                self._images += label != "source"
                write_picture(value, self.out / name)
                self.file(name, label)


def _scan_facts(scan: object) -> dict[str, object]:
    from omote.types import Mesh, PointCloud, Rgbd

    if isinstance(scan, Mesh):
        colored = scan.texture is not None or scan.vertex_colors is not None
        return {"kind": "mesh", "points": len(scan.vertices), "faces": len(scan.faces), "color": colored}
    if isinstance(scan, PointCloud):
        return {"kind": "points", "points": len(scan.points), "faces": 0, "color": scan.colors is not None}
    assert isinstance(scan, Rgbd)
    return {"kind": "frame", "points": int(scan.mask.sum()), "faces": 0, "color": True}


if __name__ == "__main__":
    sys.exit(main())
