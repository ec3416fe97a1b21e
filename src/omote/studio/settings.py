"""What a server allows, and what a job asks for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import arg

from omote.config import Range, check_ranges
from omote.errors import ConfigError
from omote.head.expressions import expressions_of
from omote.pipelines.settings import AvatarSettings
from omote.types import Unit

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LEAST_TOKEN = 16
NUM_LANDMARKS, LEAST_LANDMARKS = 68, 12
MOST_TEXTS, LONGEST_TEXT = 8, 200
CONSENT = "The person in this scan agrees to this avatar being made."


def default_folder() -> Path:
    """Folder of jobs in the user's own data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "omote/studio"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of the server.

    Attributes:
        port: port; 0 takes a free one.
        host: address to listen at; any but this machine's own (127.0.0.1) needs --token.
        token: word of at least 16 characters that clients must give; by default that of the variable OMOTE_STUDIO_TOKEN.
        names: further names of this server, as browsers call it (avatars.example.org).
        proxy: addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    port: Annotated[int, Range(0, 65535)] = 8360
    host: str = "127.0.0.1"
    token: Annotated[str | None, arg(metavar="WORD", help_behavior_hint="")] = None
    names: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ()
    proxy: Annotated[tuple[str, ...], arg(metavar="ADDRESS ...")] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.secret is not None and len(self.secret) < LEAST_TOKEN:
            raise ConfigError(
                f"token: expected at least {LEAST_TOKEN} characters, got {len(self.secret)}; give a longer one"
            )
        if self.host not in LOOPBACK and self.secret is None:
            raise ConfigError(
                f"host: {self.host} can be reached from other machines, where anybody could upload; give --token WORD too"
            )

    @property
    def secret(self) -> str | None:
        """The token, from the option or the variable; None asks for none."""
        return self.token or os.environ.get("OMOTE_STUDIO_TOKEN") or None


@dataclass(frozen=True, kw_only=True)
class StudioSettings(ServerSettings):
    """Settings of the studio.

    Attributes:
        folder: folder of jobs and their files; by default omote/studio in the user's data folder.
        workers: number of avatars made at a time.
        keep_hours: hours after which a finished job and its files are deleted.
        upload_mb: largest upload, all its files together.
        queue: most jobs that wait.
        queue_each: most jobs that wait or run for one client address.
        jobs_per_minute: most jobs that one client address starts in a minute.
        requests_per_minute: most requests of one client address in a minute.
        job_s: longest time that a job may take.
        job_memory_mb: most memory that a job's processes may hold.
        disk_free_mb: space left on the disk below which no upload is accepted.
        multiview_weights: export folder of candidate 1, which adds the pipeline multiview.
        latent_views_weights: export folder of candidate 2, which adds the pipeline latent-views.
    """

    folder: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    workers: Annotated[int, Range(1, 256)] = 1
    keep_hours: Annotated[float, Range(0.01)] = 24.0
    upload_mb: Annotated[int, Range(1, 2048)] = 512
    queue: Annotated[int, Range(1)] = 200
    queue_each: Annotated[int, Range(1)] = 10
    jobs_per_minute: Annotated[int, Range(1)] = 30
    requests_per_minute: Annotated[int, Range(1)] = 1200
    job_s: Annotated[float, Range(1)] = 900.0
    job_memory_mb: Annotated[int, Range(500)] = 6000
    disk_free_mb: Annotated[int, Range(0)] = 1000
    multiview_weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    latent_views_weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    @property
    def home(self) -> Path:
        """The folder of jobs."""
        return self.folder or default_folder()

    def weights_of(self, pipeline: str) -> Path | None:
        """Weights of a pipeline; None for those that omote finds itself."""
        return {"multiview": self.multiview_weights, "latent-views": self.latent_views_weights}.get(pipeline)


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What the avatar of a job shall be like; see `AvatarSettings`, whose defaults these are.

    Attributes:
        expressions: names of expressions, or all.
        text: expressions in words.
        intensity: strength of the expressions given by name.
        seed: seed of the diffusion's noise.
        steps: number of diffusion steps.
        guidance_scale: scale of classifier-free guidance; the pipeline's own if None.
        pipeline: candidate pipeline.
        depth_weight: influence of the scan's depth on several views.
        unit: unit of the scan.
        max_depth_mm: greatest depth that is kept of a depth frame.
        surroundings: what becomes of hair and collar.
        appearance_seed: seed of the skin of a scan without colour.
    """

    expressions: tuple[str, ...] = ("all",)
    text: tuple[str, ...] = ()
    intensity: Annotated[float, Range(0, 1)] = 1.0
    seed: Annotated[int, Range(0, 2**53)] = 0  # as far as the numbers of browsers are exact
    steps: Annotated[int, Range(1, 50)] = 1
    guidance_scale: Annotated[float | None, Range(0, 20)] = None
    pipeline: Literal["rgbd", "multiview", "latent-views"] = "rgbd"
    depth_weight: Annotated[float, Range(0, 4)] = 1.0
    unit: Unit = "auto"
    max_depth_mm: Annotated[float | None, Range(1)] = None
    surroundings: Literal["keep", "drop"] = "keep"
    appearance_seed: Annotated[int | None, Range(0, 2**53)] = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(self.text) > MOST_TEXTS or any(not 0 < len(words.strip()) <= LONGEST_TEXT for words in self.text):
            raise ConfigError(f"text: expected at most {MOST_TEXTS} texts of 1 to {LONGEST_TEXT} characters each")
        expressions_of(self.expressions, self.intensity)

    def for_avatar(self, *, landmarks: np.ndarray | None, weights: Path | None) -> AvatarSettings:
        """The settings as `omote.avatar` takes them."""
        return AvatarSettings(**vars(self), landmarks=landmarks, weights=weights)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A job as a client asks for it: of uploaded files, of a made-up person, or again of an earlier job's scan.

    Attributes:
        settings: what the avatar shall be like.
        made_up: seed of a made-up person, who is then seen by a simulated depth camera as in ``omote demo``.
        again: id of an earlier job, whose scan is taken.
        consent: whether the scanned person agrees; needed for an upload.
        landmarks: points in the scan's coordinates, by their number in the Multi-PIE order; at least 12, or none.
    """

    settings: JobSettings = JobSettings()
    made_up: Annotated[int | None, Range(0, 2**53)] = None
    again: str | None = None
    consent: bool = False
    landmarks: dict[str, tuple[float, float, float]] | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        for number in self.landmarks or {}:
            if number not in {str(i) for i in range(NUM_LANDMARKS)}:
                raise ConfigError(f"landmarks: expected numbers of 0 to {NUM_LANDMARKS - 1}, got {number[:20]!r}")
        if self.landmarks is not None and len(self.landmarks) < LEAST_LANDMARKS:
            raise ConfigError(f"landmarks: expected at least {LEAST_LANDMARKS} known points, got {len(self.landmarks)}")

    def landmark_rows(self) -> np.ndarray | None:
        """The landmarks as 68 rows, NaN where unknown; None if there are none."""
        if self.landmarks is None:
            return None
        rows = np.full((NUM_LANDMARKS, 3), np.nan)
        for number, point in self.landmarks.items():
            rows[int(number)] = point
        return rows
