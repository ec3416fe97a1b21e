"""Folders of several depth frames, and all frames of a recording: their layouts, order, poses and what is left out."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from omote.errors import ScanError
from omote.formats.frames import holds_frames, read_frames
from scan_files import write_frame

RGB = np.zeros((30, 40, 3), np.uint8) + 99


def frame(folder: Path, mm: int, **keys: object) -> Path:
    return write_frame(folder, np.full((30, 40), mm, np.uint16), RGB, **keys)


def depths(path: Path, **options: int) -> list[float]:
    return [float(frame.depth_mm.max()) for frame in read_frames(path, **options).frames.values()]


def test_a_folder_each_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for n in (10, 2, 1):
        frame(tmp_path / f"frame_{n}", 500 + n)
    (tmp_path / "report.json").write_text("{}")
    assert holds_frames(tmp_path)
    read = read_frames(tmp_path)
    assert list(read.frames) == ["frame_1", "frame_2", "frame_10"]
    assert [f.depth_mm.max() for f in read.frames.values()] == [501, 502, 510]
    assert (read.cam_from_world, read.found, read.notes) == ({}, 3, ())


def test_a_json_file_each(tmp_path: Path) -> None:
    for n in range(2):
        for path in frame(tmp_path / f"made_{n}", 500 + n).iterdir():
            if path.suffix == ".json":
                layout = json.loads(path.read_text()) | {"color": f"color_{n}.png", "depth": f"depth_{n}.png"}
                (tmp_path / f"frame_{n}.json").write_text(json.dumps(layout))
            else:
                shutil.move(path, tmp_path / f"{path.stem}_{n}{path.suffix}")
        shutil.rmtree(tmp_path / f"made_{n}")
    assert depths(tmp_path) == [500, 501]


def test_one_camera_for_all(tmp_path: Path) -> None:
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    for n in (9, 10):
        for path in frame(tmp_path / "made", 500 + n).iterdir():
            if path.suffix == ".json":
                shutil.copy(path, tmp_path / "intrinsics.json")
            else:
                shutil.move(path, tmp_path / ("rgb" if path.stem == "color" else "depth") / f"{n}{path.suffix}")
    assert holds_frames(tmp_path)
    assert depths(tmp_path) == [509, 510]
    next((tmp_path / "rgb").iterdir()).unlink()
    assert not holds_frames(tmp_path)


def test_long_turns_are_thinned_evenly(tmp_path: Path) -> None:
    for n in range(9):
        frame(tmp_path / f"f{n}", 500 + n)
    assert depths(tmp_path, most=3) == [500, 504, 508]
    assert read_frames(tmp_path, most=3).notes == ("3 of 9 frames are taken, evenly",)


def test_poses_of_the_files(tmp_path: Path) -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec([0.1, 0.5, 0]).as_matrix(), (1, 2, 3)
    frame(tmp_path / "a", 500, cam_from_world=pose.tolist())
    frame(tmp_path / "b", 500, world_from_cam=np.linalg.inv(pose).tolist())
    given = read_frames(tmp_path).cam_from_world
    for found in given.values():
        np.testing.assert_allclose(found, pose, atol=1e-9)
    frame(tmp_path / "c", 500)
    read = read_frames(tmp_path)
    assert read.cam_from_world == {}
    assert read.notes == ("only 2 of 3 frames give their pose: none of these is used",)


@pytest.mark.parametrize("pose", [[1, 2, 3], np.diag([1, 1, -1, 1]).tolist(), np.diag([2, 2, 2, 1]).tolist(), "none"])
def test_a_pose_that_is_none_is_refused_by_name(tmp_path: Path, pose: object) -> None:
    for name in ("a", "b"):
        frame(tmp_path / name, 500, cam_from_world=pose)
    with pytest.raises(ScanError, match="'cam_from_world' as a rigid transform") as caught:
        read_frames(tmp_path)
    assert "\n" not in str(caught.value)


def test_frames_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        frame(tmp_path / name, 500)
    (tmp_path / "b/depth.png").write_bytes(b"no picture")
    read = read_frames(tmp_path)
    assert list(read.frames) == ["a", "c"]
    assert read.notes[0].startswith("b is left out: ")
    (tmp_path / "c/depth.png").unlink()
    with pytest.raises(ScanError, match="at least 2 frames that can be read, got 1"):
        read_frames(tmp_path)


def test_what_holds_no_frames(tmp_path: Path) -> None:
    frame(tmp_path / "only", 500)
    assert not holds_frames(tmp_path)
    assert not holds_frames(tmp_path / "only")
    assert not holds_frames(tmp_path / "nowhere")
    with pytest.raises(ScanError, match="at least 2 depth frames"):
        read_frames(tmp_path)
    with pytest.raises(ScanError, match="no such file or folder"):
        read_frames(tmp_path / "nowhere")
    with pytest.raises(ScanError, match="another file"):
        read_frames(tmp_path / "only/intrinsics.json")


def test_all_frames_of_a_recording(tmp_path: Path) -> None:
    turn = Rotation.from_rotvec([0, 0.3, 0])
    pose = [*turn.as_quat().tolist(), 0.1, 0.2, 0.3]
    metadata = {"w": 40, "h": 30, "dw": 40, "dh": 30, "K": [50, 0, 0, 0, 50, 0, 20, 15, 1], "poses": [pose, pose, [0]]}
    picture = io.BytesIO()
    Image.fromarray(RGB).save(picture, "JPEG")
    with zipfile.ZipFile(tmp_path / "a.r3d", "w") as archive:
        archive.writestr("metadata", json.dumps(metadata))
        for n in range(3):
            archive.writestr(f"rgbd/{n}.jpg", picture.getvalue())
            archive.writestr(f"rgbd/{n}.depth", np.full(1200, 0.5 + n, "<f4").tobytes())
    read = read_frames(tmp_path / "a.r3d")
    assert [frame.depth_mm.max() for frame in read.frames.values()] == [500, 1500, 2500]
    assert "only 2 of 3" in read.notes[0]
    world = np.linalg.inv(read_frames(tmp_path / "a.r3d", most=2).cam_from_world.get("frame 0", np.eye(4)))
    np.testing.assert_array_equal(world, np.eye(4))  # frame 2, of the two, has no pose
    metadata["poses"][2] = pose
    with zipfile.ZipFile(tmp_path / "b.r3d", "w") as archive, zipfile.ZipFile(tmp_path / "a.r3d") as old:
        for name in old.namelist():
            archive.writestr(name, old.read(name) if name != "metadata" else json.dumps(metadata))
    world = np.linalg.inv(read_frames(tmp_path / "b.r3d").cam_from_world["frame 1"])
    # A camera that looks along -z of its own ARKit axes, and so along +z of OpenCV's.
    np.testing.assert_allclose(world[:3, 2], -turn.as_matrix()[:, 2], atol=1e-9)
    np.testing.assert_allclose(world[:3, 3], [100, 200, 300], atol=1e-9)
