"""Nothing phones home: no command looks up a name, connects, or writes outside its outputs and the caches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omote.errors import OmoteError
from omote.evaluation.judges.weights import locate

GUARD = Path(__file__).parent / "helpers/guard"
PROGRAM = """
import sys
from omote.cli.main import main
for command in sys.argv[1:]:
    code = main(command.split())
    if code:
        sys.exit(f"{command}: {code}")
"""


def guarded(folder, program, *arguments):
    """Run a program in an empty folder with an empty home; what it tried to reach, and the files it wrote elsewhere."""
    places = {name: folder / name for name in ("home", "temporary", "work")}
    for place in places.values():
        place.mkdir()
    log = folder / "log"
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "OMOTE_JUDGES") if name in os.environ}
    environment |= {"HOME": str(places["home"]), "TMPDIR": str(places["temporary"]), "GUARD_LOG": str(log)}
    environment["PYTHONPATH"] = os.pathsep.join([str(GUARD), *(p for p in sys.path if p.endswith("src"))])
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=places["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tried = [line.split("\t", 1) for line in log.read_text().splitlines()]
    allowed = (str(places["work"]), str(places["temporary"]), "/dev/")
    written = {where for what, where in tried if what == "write" and not where.startswith(allowed)}
    found = {str(path) for path in places["home"].rglob("*") if path.is_file()}
    return [line for line in tried if line[0] != "write"], {p for p in written | found if "__pycache__" not in p}


def test_the_guard_sees_what_it_should(tmp_path):
    program = """
import socket, subprocess, sys
from pathlib import Path
Path.home().joinpath("note").write_text("")
subprocess.run([sys.executable, "-c", "import socket; socket.gethostbyname('localhost')"], stderr=subprocess.DEVNULL)
try:
    socket.create_connection(("127.0.0.1", 9))
except OSError:
    pass
"""
    tried, written = guarded(tmp_path, program)
    assert [what for what, _ in tried] == ["socket.gethostbyname", "socket.getaddrinfo"]
    assert written == {str(tmp_path / "home/note")}


def test_no_command_reaches_out_or_writes_elsewhere(tmp_path):
    commands = [
        "demo --out demo --backend openvino",
        "population --out runs/population --persons 2 --images 5 --workers 1",
        "train autoencoder-tiny --run runs/autoencoder --set engine.total_images=32",
        "info",
    ]
    try:
        locate()
    except OmoteError:
        pass
    else:
        commands.append("evaluate population --out measured --persons 1")
    tried, written = guarded(tmp_path, PROGRAM, *commands)
    assert tried == []
    assert written == set()
    assert (tmp_path / "work/demo/avatar.glb").is_file()
    assert (tmp_path / "work/runs/autoencoder/export/autoencoder").is_dir()


def test_openvino_takes_its_stub_for_what_reports(tmp_path):
    pytest.importorskip("openvino")
    program = """
import omote
from openvino.tools.ovc import telemetry_stub, telemetry_utils
assert telemetry_utils.tm is telemetry_stub
"""
    assert guarded(tmp_path, program) == ([], set())
