"""Depth frames of one head, as a camera or the head turns → their poses, and one surface.

    frames ─ find the face in each ─ grow from the surest frame, neighbour by neighbour ─ ICP over all pairs ─ TSDF → mesh

A frame's own head fit places it to within a few degrees, and where no face is found, at profile or beyond, its neighbour's pose
is near enough for ICP. Frames that bring poses of their own start from those, if they agree with the surfaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from omote.align.align import background_of
from omote.align.surface import surface_of
from omote.errors import AlignmentError, ScanError
from omote.geometry.camera import rgbd_points, transform
from omote.geometry.foreground import without
from omote.geometry.holes import closed, small_holes, without_pinholes
from omote.geometry.icp import FAR_MM, NEAR_MM, Agreement, Pair, Pose, View, agreement, distances, registered, view_of
from omote.geometry.tsdf import fused
from omote.head.model import HeadModel
from omote.progress import Step, Steps
from omote.runs import Stopwatch
from omote.types import FusedMesh, Rgbd

HEAD_MM = np.array([0.0, -30.0, -60.0])  # the middle of a head, in the canonical frame
VOXEL_MM, TRUNCATION_MM, MOST_SLOPE = 1.5, 5.0, 3.5
# The fused box, in the canonical frame: a head with its hair and neck. Shoulders don't turn with a head.
LOW_MM, HIGH_MM = np.array([-140.0, -175.0, -225.0]), np.array([140.0, 165.0, 90.0])
# The part of it that is as rigid as a skull: frames are registered by it.
RIGID_LOW_MM, RIGID_HIGH_MM = np.array([-115.0, -110.0, -200.0]), np.array([115.0, 130.0, 70.0])
# Boxes of the face's part that expressions move most, and of one that they move least.
MOUTH_LOW_MM, MOUTH_HIGH_MM = np.array([-40.0, -105.0, -30.0]), np.array([40.0, -45.0, 60.0])
NOSE_LOW_MM, NOSE_HIGH_MM = np.array([-45.0, -40.0, -30.0]), np.array([45.0, 60.0, 70.0])
# Median distance of the mouth between frames, and its ratio to the nose's and forehead's.
STILL_MM, STILL_RATIO = 0.4, 1.6
ONE_HEAD_MM = 0.6  # frames of one head at rest differ by .15 to .25 mm there, those of different persons by .8
MOVED_MM = 12.0
# Frames whose cameras look at the head from directions at most this far apart share enough surface to be compared.
MOST_APART_DEG = 95.0
NEIGHBORS = 5
# A frame fits others if they see this share of its rigid surface, and this share of that lies on theirs.
LEAST_OVERLAP, LEAST_FITS, SURE_FITS = 0.12, 0.9, 0.97
TURNED_DEG = (0.0, 20.0, -20.0, 40.0, -40.0)  # turns about the upright axis from a neighbour's pose, where ICP begins
DRIFT_MM = (16.0, 13.0, 10.0, *NEAR_MM)  # largest distance of two surfaces by poses of the frames' files, step by step
KEPT_DEG, KEPT_MM = 1.0, 1.0  # poses of a frame's file that ICP moves less are kept
SURE_SCORE = 0.5
SMALL_HOLE_MM = 5.0  # radius of a hole in a frame that is closed before it is fused

Poses = Mapping[str, Pose]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Poses of the frames of a turn.

    Attributes:
        canonical_from_camera: rigid pose of each frame that has one, mm; the canonical frame is that of the surest head fit.
        left_out: by frame, why it has no pose.
        source: where the poses are from: "given" as they were, "refined" from given ones, or "found".
        mouth_mm: median distance of mouth and chin between frames.
        rest_mm: that of forehead and nose.
    """

    canonical_from_camera: Poses
    left_out: Mapping[str, str]
    source: Literal["given", "refined", "found"]
    mouth_mm: float
    rest_mm: float

    @property
    def still(self) -> bool:
        """Whether the face keeps its expression from frame to frame, as far as the frames tell."""
        return not (self.mouth_mm > STILL_MM and self.mouth_mm > STILL_RATIO * self.rest_mm)

    def notes(self) -> list[str]:
        """Sentences on what was left out, or does not look right."""
        out = [f"{name} is left out: {why}" for name, why in self.left_out.items()]
        if self.rest_mm > ONE_HEAD_MM:
            out.append(
                f"the frames lie {self.rest_mm:.1f} mm apart at forehead and nose: expected one head, near the camera, without "
                "glasses or hair that moves"
            )
        elif not self.still:
            out.append(
                f"the face moves between the frames (mouth {self.mouth_mm:.1f} mm, forehead and nose {self.rest_mm:.1f} mm): "
                "one that keeps still is sharper"
            )
        return out


def posed_turn(frames: Mapping[str, Rgbd], head: HeadModel, *, given: Poses | None = None) -> Steps[Turn]:
    """Find the poses of frames of one head.

    Args:
        frames: depth frames by name in the order in which they were taken, each in its own camera's axes.
        head: head model to find the face with.
        given: rigid camera-from-world poses of all frames, mm, in any one world; None or of some frames: they are not used.

    Raises:
        ScanError: fewer than two frames.
        AlignmentError: no face in any frame, or no two frames that fit each other.
    """
    if len(frames) < 2:
        raise ScanError(f"expected at least 2 frames of one head, got {len(frames)}; give it as a single frame")
    turn = _Frames(frames, head)
    if given is not None and set(given) >= set(frames):
        started = yield from turn.from_given(given)
        if started is not None:
            return started
    return (yield from turn.from_fits())


def fuse_turn(frames: Mapping[str, Rgbd], turn: Turn, *, voxel_mm: float = VOXEL_MM) -> FusedMesh:
    """The coloured surface that posed frames agree on, in the canonical frame, mm.

    Args:
        frames: depth frames by name.
        turn: their poses.
        voxel_mm: edge of a voxel.

    Raises:
        ScanError: they show no surface.
    """
    posed = []
    for name, pose in turn.canonical_from_camera.items():
        frame = without(frames[name], background_of(frames[name], pose))
        frame = without_pinholes(frame)
        # The shadows and dropouts that a camera has between closed lips would look like an open mouth.
        frame = closed(frame, small_holes(frame, SMALL_HOLE_MM))
        posed.append(replace(frame, camera=replace(frame.camera, cam_from_world=np.linalg.inv(pose))))
    seen = np.concatenate([rgbd_points(frame)[0] for frame in posed])
    seen = seen[((seen > LOW_MM) & (seen < HIGH_MM)).all(axis=1)]
    if not len(seen):
        raise ScanError("expected depth frames of a head, found no surface of one; check their poses")
    # The box of what was seen holds far fewer voxels than one that holds any head.
    pitch = max(_pitch(frame) for frame in posed)
    truncation = max(TRUNCATION_MM, MOST_SLOPE * pitch)  # neighbours on a slant differ by more than their width
    low, high = seen.min(axis=0) - truncation, seen.max(axis=0) + truncation
    mesh = fused(posed, low_mm=low, high_mm=high, voxel_mm=voxel_mm, truncation_mm=truncation)
    return FusedMesh(vertices=mesh.vertices, faces=mesh.faces, vertex_colors=mesh.vertex_colors)


class _Frames:
    """The frames of a turn while their poses are sought."""

    def __init__(self, frames: Mapping[str, Rgbd], head: HeadModel) -> None:
        self.names = list(frames)
        self.frames, self.head = [frames[name] for name in self.names], head
        self.views = [view_of(frame) for frame in self.frames]
        self.fits: dict[int, tuple[float, Pose]] = {}  # score and canonical from camera of each frame with a face
        self.sought: set[int] = set()
        self.refusal = ""

    def from_given(self, given: Poses) -> Steps[Turn | None]:
        """Poses of the frames' files, refined if that changes them; None if they don't agree with the surfaces."""
        inward = [np.linalg.inv(np.asarray(given[name], np.float64)) for name in self.names]
        middle = (len(self.names) - 1) / 2
        for i in sorted(range(len(self.names)), key=lambda i: abs(i - middle)):
            yield from self._seek([i])
            if self.fits.get(i, (0.0,))[0] >= SURE_SCORE:
                break
        if not self.fits:
            raise self._faceless()
        surest = self._surest()
        gauge = self.fits[surest][1] @ np.linalg.inv(inward[surest])
        poses = {i: gauge @ pose for i, pose in enumerate(inward)}
        yield Step(stage="register", note="given poses")
        refined = self._settled(poses, surest, limits_mm=DRIFT_MM)
        if self._misfits(refined):
            return None
        moved = [_apart(poses[i], refined[i]) for i in poses]
        if all(degrees < KEPT_DEG and mm < KEPT_MM for degrees, mm in moved):
            return self._turn(poses, {}, "given")
        return self._turn(refined, {}, "refined")

    def from_fits(self) -> Steps[Turn]:
        """Poses by the head fits of the frames and by their neighbours."""
        yield from self._seek(range(len(self.names)))
        if not self.fits:
            raise self._faceless()
        surest = self._surest()
        poses = yield from self._grown(surest)
        if len(poses) < 2:
            raise AlignmentError(
                f"no two of {len(self.names)} frames fit each other: expected frames of one head that keeps still, the "
                "next at most 30 degrees from the last; give one frame, or others"
            )
        poses = self._settled(poses, surest)
        while len(poses) > 2 and (worst := self._misfits(poses)):
            # One frame at a time: it may be what its neighbours don't fit.
            del poses[worst[0]]
            poses = self._settled(poses, surest)
        reason = "its surface lies on no other frame's"
        left_out = {
            name: reason if i in self.fits else f"no face was found in it, and {reason}"
            for i, name in enumerate(self.names)
            if i not in poses
        }
        return self._turn(poses, left_out, "found")

    def _seek(self, which: Sequence[int]) -> Steps[None]:
        """Find the face in some frames."""
        from omote.align.search import located  # imports torch

        for done, i in enumerate(which):
            yield Step(stage="find", done=done, total=len(which), note=self.names[i])
            if i in self.sought:
                continue
            self.sought.add(i)
            try:
                found = located(self.head, surface_of(self.frames[i]), Stopwatch(), mm_per_unit=1.0)
            except (AlignmentError, ScanError) as error:
                self.refusal = str(error)
                continue
            matrix = found.fit.canonical_from_scan
            self.fits[i] = found.score, matrix
            frame = without(self.frames[i], background_of(self.frames[i], matrix))
            self.views[i] = view_of(frame)

    def _faceless(self) -> AlignmentError:
        return AlignmentError(f"no face in any of {len(self.sought)} frames ({self.refusal})")

    def _surest(self) -> int:
        return max(self.fits, key=lambda i: self.fits[i][0])

    def _grown(self, first: int) -> Steps[dict[int, Pose]]:
        """Poses of the frames that fit others, nearest frames in order first."""
        poses = {first: self.fits[first][1]}
        waiting = set(range(len(self.names))) - {first}
        failed: set[int] = set()
        while waiting:
            i = min(waiting, key=lambda i: (i in failed, min(abs(i - j) for j in poses), i))
            if i in failed:
                break  # nothing new has been placed since these were tried
            yield Step(stage="register", done=len(poses), total=len(self.names), note=self.names[i])
            pose = self._placed(i, poses)
            if pose is None:
                failed.add(i)
            else:
                poses[i] = pose
                waiting.discard(i)
                failed.clear()
        return poses

    def _placed(self, i: int, poses: Mapping[int, Pose]) -> Pose | None:
        """Pose of a frame by ICP to placed ones, from the first start that leads to a fit beyond doubt, or the best."""
        best: tuple[float, Pose] | None = None
        for start in self._starts(i, poses):
            fixed = sorted(poses, key=lambda j: _between(poses[j], start))[:NEIGHBORS]
            pose = registered(
                [self._rigid(i, start, margin_mm=15.0), *(self._rigid(j, poses[j]) for j in fixed)],
                [start, *(poses[j] for j in fixed)],
                [(0, n) for n in range(1, len(fixed) + 1)],
                limits_mm=FAR_MM,
                fixed=range(1, len(fixed) + 1),
            )[0]
            found = self._fit(i, pose, poses)
            if found is not None and (best is None or found.fits > best[0]):
                best = found.fits, pose
            if best is not None and best[0] >= SURE_FITS:
                break
        return None if best is None else best[1]

    def _starts(self, i: int, poses: Mapping[int, Pose]) -> Iterator[Pose]:
        """Where a frame's pose may be near: its own fit, one further along the turn, a neighbour's, and such as turn from it."""
        if i in self.fits:
            yield self.fits[i][1]
        near = sorted(poses, key=lambda j: abs(i - j))
        if len(near) > 1 and (near[0] - near[1]) * (i - near[0]) > 0:
            yield _further(poses[near[1]], poses[near[0]], (i - near[0]) / (near[0] - near[1]))
        for degrees in TURNED_DEG:
            turn = np.eye(4)
            turn[:3, :3] = Rotation.from_rotvec([0.0, np.deg2rad(degrees), 0.0]).as_matrix()
            turn[:3, 3] = HEAD_MM - turn[:3, :3] @ HEAD_MM
            yield turn @ poses[near[0]]

    def _fit(self, i: int, pose: Pose, poses: Mapping[int, Pose]) -> Agreement | None:
        """How a frame fits the others that see the same; None if it does not."""
        view, found = self._rigid(i, pose), []
        for j in self._neighbors(i, pose, poses):
            other = self._rigid(j, poses[j])
            pair = (agreement(view, other, pose, poses[j]), agreement(other, view, poses[j], pose))
            found.append(Agreement(overlap=pair[0].overlap, fits=min(pair[0].fits, pair[1].fits)))
        found = [one for one in found if one.overlap >= LEAST_OVERLAP]
        if not found:
            return None
        best = max(found, key=lambda one: one.fits)
        return best if best.fits >= LEAST_FITS else None

    def _misfits(self, poses: Mapping[int, Pose]) -> list[int]:
        """Frames that fit no other."""
        others = {i: {j: pose for j, pose in poses.items() if j != i} for i in poses}
        return [i for i in poses if self._fit(i, poses[i], others[i]) is None]

    def _settled(
        self, poses: Mapping[int, Pose], anchor: int, *, limits_mm: Sequence[float] = NEAR_MM
    ) -> dict[int, Pose]:
        """All poses by ICP over all pairs; that of one frame is kept."""
        ids = list(poses)
        views = [self._rigid(i, poses[i]) for i in ids]
        found = registered(
            views,
            [poses[i] for i in ids],
            [(ids.index(i), ids.index(j)) for i, j in self._pairs(poses)],
            limits_mm=limits_mm,
        )
        anchor = anchor if anchor in poses else ids[0]
        back = poses[anchor] @ np.linalg.inv(found[ids.index(anchor)])
        return {i: back @ pose for i, pose in zip(ids, found, strict=True)}

    def _pairs(self, poses: Mapping[int, Pose]) -> list[Pair]:
        pairs = set()
        for i in poses:
            for j in self._neighbors(i, poses[i], {j: pose for j, pose in poses.items() if j != i}):
                pairs.add((min(i, j), max(i, j)))
        return sorted(pairs)

    def _neighbors(self, i: int, pose: Pose, poses: Mapping[int, Pose]) -> list[int]:
        """The placed frames that look at the head most as this one does."""
        apart = {j: _between(poses[j], pose) for j in poses if j != i}
        return [j for j in sorted(apart, key=lambda j: apart[j])[:NEIGHBORS] if apart[j] < MOST_APART_DEG]

    def _rigid(self, i: int, pose: Pose, *, margin_mm: float = 0.0) -> View:
        """A frame's view, of what is as rigid as a skull."""
        view = self.views[i]
        return replace(view, mask=view.mask & _inside(view, pose, RIGID_LOW_MM - margin_mm, RIGID_HIGH_MM + margin_mm))

    def _turn(
        self, poses: Mapping[int, Pose], left_out: Mapping[str, str], source: Literal["given", "refined", "found"]
    ) -> Turn:
        parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for i, j in self._pairs(poses):
            found = distances(self._rigid(i, poses[i]), self._rigid(j, poses[j]), poses[i], poses[j], MOVED_MM)
            for part, low, high in (
                (parts[0], MOUTH_LOW_MM, MOUTH_HIGH_MM),
                (parts[1], NOSE_LOW_MM, NOSE_HIGH_MM),
            ):
                part.append(np.abs(found[((found[:, :3] > low) & (found[:, :3] < high)).all(axis=1), 3]))
        mouth, rest = (float(np.median(every)) if len(every := np.concatenate(part)) else 0.0 for part in parts)
        return Turn(
            canonical_from_camera={self.names[i]: poses[i] for i in sorted(poses)},
            left_out=left_out,
            source=source,
            mouth_mm=mouth,
            rest_mm=rest,
        )


def _pitch(frame: Rgbd) -> float:
    """Width of a pixel on the surface, mm."""
    return float(np.median(frame.depth_mm[frame.mask]) / frame.camera.intrinsics[0, 0]) if frame.mask.any() else 0.0


def _inside(
    view: View, pose: Pose, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, "h w"]:
    points = transform(pose, view.points_mm.reshape(-1, 3))
    return np.asarray(((points > low) & (points < high)).all(axis=1)).reshape(view.mask.shape)


def _between(first: Pose, second: Pose) -> float:
    """Angle in degrees between the directions from which two cameras look at the head."""
    a, b = (pose[:3, 3] - HEAD_MM for pose in (first, second))
    cosine = (a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def _apart(first: Pose, second: Pose) -> tuple[float, float]:
    """Difference of two poses of one camera: degrees, and mm at the middle of the head."""
    motion = second @ np.linalg.inv(first)
    cosine = np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1)
    moved = transform(motion, HEAD_MM[None])[0] - HEAD_MM
    return float(np.rad2deg(np.arccos(cosine))), float(np.linalg.norm(moved))


def _further(before: Pose, last: Pose, share: float) -> Pose:
    """The pose after another ``share`` of the motion between two."""
    motion = last @ np.linalg.inv(before)
    turn = Rotation.from_rotvec(share * Rotation.from_matrix(motion[:3, :3]).as_rotvec()).as_matrix()
    moved = transform(motion, HEAD_MM[None])[0] - HEAD_MM
    out = np.eye(4)
    out[:3, :3] = turn
    out[:3, 3] = HEAD_MM + share * moved - turn @ HEAD_MM
    return np.asarray(out @ last)
