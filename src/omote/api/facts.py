"""``omote.info``: versions, extras, weights, head models, judges and the machine, as a report of a defect needs them."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from omote.errors import OmoteError
from omote.runs import Value, commit, machine, versions

# What networks and geometry run faster with, as Linux names it.
PROCESSOR_FEATURES = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16",
                      "asimd", "asimddp", "bf16", "sve")  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def info() -> dict[str, Value]:
    """Versions, extras, weights, head models, judges and machine as a flat report, in which the home folder is ``~``."""
    return {
        **versions(),
        "version/commit": commit(),
        **_extras(),
        **_system(),
        **machine(),
        **_processor(),
        **_torch(),
        **_weights(),
        "head/shipped": _head(),
        "judges": _judges(),
    }


def _extras() -> dict[str, Value]:
    """Versions of each extra's packages, and those that are missing."""
    found: dict[str, list[str]] = {}
    try:
        needed = requires("omote") or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        needed = []
    for line in needed:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name is None or extra is None:
            continue
        try:
            package = f"{name[0]} {version(name[0])}"
        except PackageNotFoundError:
            package = f"{name[0]} missing"
        found.setdefault(extra[1], []).append(package)
    return {f"extra/{extra}": ", ".join(packages) for extra, packages in sorted(found.items())}


def _system() -> dict[str, Value]:
    release = ""
    try:
        release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:  # not Linux, or a container without it
        release = platform.mac_ver()[0] or platform.win32_ver()[0]
    libc = " ".join(part for part in platform.libc_ver() if part)
    return {
        "system/release": ", ".join(part for part in (release, platform.release(), libc) if part),
        "system/python": f"{platform.python_implementation()} {sys.version.split()[0]}, {platform.python_compiler()}",
        "system/encoding": f"{sys.getfilesystemencoding()} names, {sys.stdout.encoding or 'no'} terminal",
        **{f"system/{name}": os.environ.get(name) for name in THREAD_VARIABLES if name in os.environ},
    }


def _processor() -> dict[str, Value]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    there = set(flags[1].split()) if flags else set()
    return {"machine/processor_features": " ".join(name for name in PROCESSOR_FEATURES if name in there) or None}


def _torch() -> dict[str, Value]:
    import torch

    return {
        "machine/cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch/build": f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA",
        "torch/cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch/onednn": torch.backends.mkldnn.is_available(),
        "torch/threads": torch.get_num_threads(),
    }


def _weights() -> dict[str, Value]:
    from omote.api.avatars import CANDIDATES
    from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, fingerprint

    there = any(SHIPPED_WEIGHTS.rglob("*.safetensors"))
    shipped = f"{_shown(SHIPPED_WEIGHTS)} ({fingerprint(SHIPPED_WEIGHTS)})" if there else "missing"
    others = {
        pipeline: (SHIPPED_WEIGHTS / RIVALS / folder / "denoiser/config.json").is_file()
        for pipeline, folder in CANDIDATES.items()
    }
    return {
        "weights/shipped": shipped,
        **{f"weights/{name}": "present" if is_there else "not present" for name, is_there in others.items()},
    }


def _head() -> str:
    from omote.head.shipped import shipped_head

    try:
        head = shipped_head()
    except (OmoteError, OSError) as error:
        return f"missing ({error})"
    return f"{head.name}: {head.num_vertices:,} vertices, {head.num_identity} identity modes"


def _judges() -> str:
    from omote.evaluation.judges.weights import INSTALL_COMMAND, locate

    try:
        return _shown(locate())
    except OmoteError:
        return f"not installed (optional: {INSTALL_COMMAND} DIR)"


def _shown(path: Path) -> str:
    """A path without the name of the user."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
