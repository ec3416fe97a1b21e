"""``omote COMMAND``: find the command, parse its options with tyro, and turn errors into one line and an exit code.

Exit codes: 0 success; 1 a defect of omote (with a traceback); 2 bad input, options or output; 130 interrupted.
"""

from __future__ import annotations

import difflib
import inspect
import io
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

# Answering `omote --help` from this table avoids importing the commands; a test compares the two.
COMMANDS = {
    "avatar": "Make an avatar (GLB with morph targets) of a scan.",
    "batch": "Make avatars of a folder, a list or a WebDataset of scans, with a table of what worked and why not.",
    "demo": "Make an avatar of a synthetic person seen by a simulated depth camera.",
    "fit": "Find the face in a scan and fit the head model to it.",
    "fuse": "Fuse several depth frames of one head to one scan.",
    "render": "Write a scan as the RGB-D image that the networks see.",
    "reconstruct": "Send a scan's RGB-D image through the autoencoder and measure what is lost.",
    "sample": "Sample synthetic persons unconditionally, each with the wanted expressions.",
    "population": "Render a population of synthetic persons, for training or to look at.",
    "data": "Check a dataset of scans or render it, or pack a folder of images, for training.",
    "encode": "Encode a population's latent pairs once, so that editors train on them faster.",
    "train": "Train a recipe, or resume a run.",
    "evaluate": "Measure networks on unseen persons.",
    "report": "Compare result folders of evaluations on one self-contained page.",
    "study": "Compare under equal conditions, after training if necessary, as a table and a figure.",
    "studio": "Open a page in the browser on which a scan becomes an avatar.",
    "view": "Show an avatar (GLB, VRM) in the browser.",
    "generate": "Generate new images with a model of a folder of images.",
    "tool": "Make the shipped weights outside the diffusion model: landmarks, units of a second head family.",
    "info": "Show versions, extras, weights, head models, judges and this machine: what a report of a defect needs.",
    "completion": "Print completions of commands, options and choices for bash, zsh or fish.",
}
SPARE_THREADS = 8  # beside two per core: those of pools, and of the process that edits


def usage() -> str:
    """The text of ``omote --help``."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: omote COMMAND [OPTIONS]",
            "",
            "One 3D face in, an avatar that can show any expression out.",
            "",
            *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()),
            "",
            "`omote COMMAND --help` lists a command's options. An avatar of a person needs that person's yes.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: arguments without the program's name; if None, those of the process.
    """
    if not _streams_open():
        return _fail("standard output is closed; send it somewhere, such as >/dev/null")
    try:
        code = _answer(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # As in `omote info | head`: the reader has closed the pipe.
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        from omote.errors import in_one_line

        return _fail(f"standard output: {in_one_line(error)}")


def _streams_open() -> bool:
    """Whether standard output is open; closed descriptors are occupied, or the next opened file would take one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # opens the lowest free descriptor, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lasts)
    # A file's name may contain characters outside the terminal's encoding, or bytes that are no text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout is not None


def _drop_output() -> None:
    # The interpreter flushes once more at exit, and would report an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer(given: list[str]) -> int:
    if not given:
        print(usage(), file=sys.stderr)
        return 2
    name = given[0]
    if name in ("avatar", "batch", "demo"):
        # Calls are short and frequent: a pool's threads would wait for each other longer than they compute.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        from omote import __version__

        print(f"omote {__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see `omote --help`"
        return _fail(f"expected a command ({', '.join(COMMANDS)}), got {name!r}; {hint}")
    return _run(name, given[1:])


def _run(name: str, arguments: list[str]) -> int:
    from omote.errors import NO_MORE_THREADS, in_one_line
    from omote.quiet import calm_libraries

    calm_libraries()
    _find_temporary_folder()
    if not _spare_threads():
        return _fail(NO_MORE_THREADS)
    previous = {number: signal.signal(number, _terminate) for number in _endings()}
    try:
        _parse(name, arguments)()
    except KeyboardInterrupt:
        return _fail("interrupted; nothing half-written is left", code=130)
    except BrokenPipeError:
        raise
    except Exception as error:
        line = in_one_line(error)
        if line is None:
            raise
        return _fail(line)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _spare_threads() -> bool:
    """Whether the system gives the threads that a command needs: where one cannot start later, some libraries crash."""
    enough, started = threading.Event(), []
    try:
        for _ in range(SPARE_THREADS + 2 * min(os.cpu_count() or 1, 16)):
            thread = threading.Thread(target=enough.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return False
    finally:
        enough.set()
        for thread in started:
            thread.join()
    return True


def _parse(name: str, arguments: list[str]) -> Callable[[], None]:
    """The command with its parsed options."""
    import tyro

    from omote.cli.options import REGISTRY, options_of
    from omote.errors import ConfigError

    arguments = _gathered(arguments)
    options = options_of(name, arguments)
    details = (inspect.getdoc(options) or "").partition("\n\n")[2]
    try:
        return tyro.cli(
            options,
            prog=f"omote {name}",
            description=f"{COMMANDS[name]}\n\n{details.partition('Attributes:')[0]}",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
            registry=REGISTRY,
        )
    except ValueError as error:  # a relation between the fields of a config
        raise ConfigError(str(error)) from None


def _gathered(arguments: list[str]) -> list[str]:
    """The arguments with each option once: the values of several ``--set`` are joined, other options must not repeat.

    Raises:
        ConfigError: an option is given twice.
    """
    from omote.errors import ConfigError

    groups: list[list[str]] = [[]]
    for argument in arguments:
        groups.append([]) if argument.startswith("--") else None
        groups[-1].append(argument)
    rest = [group for group in groups if group[:1] != ["--set"]]
    flags = [group[0].partition("=")[0].replace("_", "-") for group in rest[1:]]
    repeated = next((flag for flag in flags if flags.count(flag) > 1), None)
    if repeated is not None:
        raise ConfigError(f"{repeated}: given twice; give it once")
    changes = [value for group in groups if group[:1] == ["--set"] for value in group[1:]]
    return [*(a for group in rest for a in group), *(["--set", *changes] if "--set" in arguments else [])]


def _find_temporary_folder() -> None:
    # torch needs one as it is imported, and a read-only system, such as a locked-down container, may have no other.
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ["TMPDIR"] = "/dev/shm"


def _endings() -> list[int]:
    """The signals that end a program, without ignored ones, such as a hang-up under nohup."""
    found = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) != signal.SIG_IGN]


def _terminate(signal_number: int, frame: FrameType | None) -> NoReturn:
    # An exception instead of sudden death, so that temporary files are removed.
    raise SystemExit(128 + signal_number)


def _fail(message: str, code: int = 2) -> int:
    print("omote: " + " ".join(message.split()), file=sys.stderr)
    return code
