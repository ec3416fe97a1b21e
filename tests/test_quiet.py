"""Nothing phones home: no command looks up a name, connects, or writes outside its outputs and the caches."""

import pytest

from omote.cli.main import COMMANDS as ALL
from omote.errors import OmoteError
from omote.evaluation.judges.weights import locate
from reach import COMMANDS, PROGRAM, guarded, write_inputs

pytestmark = pytest.mark.early


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
    tried, written, _ = guarded(tmp_path, program)
    assert [what for what, _ in tried] == ["socket.gethostbyname", "socket.getaddrinfo"]
    assert written == {str(tmp_path / "home/note")}


# What differs in the libraries that it imports and the files that it opens; `make reach` runs every command.
SOME = ("demo", "fit", "population", "data check", "data pack", "train", "studio", "view", "info")
QUICK = {"demo": ("", " --expressions happy"), "population": ("--images 7", "--images 3")}


def test_no_command_reaches_out_or_writes_elsewhere(tmp_path):
    names = list(SOME)
    try:
        locate()
    except OmoteError:
        pass
    else:
        names.append("evaluate images")  # the judges' networks, of a few pictures
    commands = [COMMANDS[name] for name in names]
    for name, (slow, quick) in QUICK.items():
        at = names.index(name)
        assert slow in commands[at]
        commands[at] = commands[at].replace(slow, quick) if slow else commands[at] + quick
    write_inputs(tmp_path / "work")
    tried, written, _ = guarded(tmp_path, PROGRAM, *commands)
    assert tried == []
    assert written == set()
    assert (tmp_path / "work/demo/avatar.glb").is_file()
    assert (tmp_path / "work/runs/autoencoder/export/autoencoder").is_dir()


def test_make_reach_runs_every_command():
    assert {name.partition(" ")[0] for name in COMMANDS} >= ALL.keys()


def test_openvino_takes_its_stub_for_what_reports(tmp_path):
    pytest.importorskip("openvino")
    program = """
import omote
from openvino.tools.ovc import telemetry_stub, telemetry_utils
assert telemetry_utils.tm is telemetry_stub
"""
    assert guarded(tmp_path, program)[:2] == ([], set())
