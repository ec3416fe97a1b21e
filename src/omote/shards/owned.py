"""Processes that belong to another one: they end with it, and leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in a process started within: the terminal sends it to both processes, and only the owner handles it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_owner() -> None:
    """End this process as soon as its owner ends, whatever it is loading or computing, and ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = multiprocessing.parent_process()
    assert owner is not None

    def watch() -> None:
        owner.join()
        os._exit(1)

    threading.Thread(target=watch, name="owner", daemon=True).start()
