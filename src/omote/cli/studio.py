"""Commands that serve a page."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from omote.config import Range
from omote.studio.serve import studio, view
from omote.studio.settings import ServerSettings, StudioSettings


@dataclass(frozen=True, kw_only=True)
class _Server:
    """A server for the browser.

    Attributes:
        no_browser: do not open the browser.
        stop_after_s: end after so many seconds, for scripts; by default Ctrl-C ends it.
    """

    no_browser: bool = False
    stop_after_s: Annotated[float | None, Range(0), arg(metavar="SECONDS", help_behavior_hint="")] = None

    def _ready(self) -> Callable[[str], None]:
        def ready(url: str) -> None:
            if self.stop_after_s is not None:
                timer = threading.Timer(self.stop_after_s, _interrupt)
                timer.daemon = True
                timer.start()

        return ready


@dataclass(frozen=True, kw_only=True)
class StudioCommand(_Server):
    """Open the studio.

    A page on which scans become avatars, served by this machine to itself. Jobs and their files are in a folder of this user, and
    are deleted after --keep-hours. See docs/studio.md for a server for others.
    """

    settings: OmitArgPrefixes[StudioSettings] = StudioSettings()

    def __call__(self) -> None:
        studio(self.settings, browser=not self.no_browser, ready=self._ready())


@dataclass(frozen=True, kw_only=True)
class ViewCommand(_Server):
    """Show an avatar.

    The studio's viewer alone: turn it, move its expressions, play a recording.

    Attributes:
        file: GLB or VRM.
    """

    file: Annotated[Positional[Path], arg(metavar="FILE.glb")]
    settings: OmitArgPrefixes[ServerSettings] = ServerSettings(port=0)

    def __call__(self) -> None:
        view(self.file, self.settings, browser=not self.no_browser, ready=self._ready())


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
