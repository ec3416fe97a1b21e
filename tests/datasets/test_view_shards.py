"""Persons seen by a rig: what shards and tars of them hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.datasets.cache import Shard, names_of, read_kind, shard_folders
from omote.datasets.population import PopulationConfig, make_population
from omote.datasets.tar_shards import TarShards
from omote.datasets.view_shards import ViewShard, draw_pose, render_views
from omote.errors import ConfigError, DatasetError
from omote.geometry.camera import project, unproject
from omote.geometry.rig import Rig
from omote.head.shipped import shipped_head

CONFIG = PopulationConfig(size=32, num_images=2, rig=Rig(), pose_deg=2.0, pose_mm=3.0)


def test_views_show_the_truth_that_goes_with_them() -> None:
    head = shipped_head()
    shard = ViewShard.checked(render_views(CONFIG, [4], [head]))
    pose = shard.pose[0, 1]
    vertices = head.vertices(shard.identity[0], shard.arkit[0, 1]) @ pose[:3, :3].T + pose[:3, 3]
    nose = head.landmarks(vertices)[30][None]
    for view, camera in enumerate(shard.cameras):
        u, v, z = project(camera, nose)[0]
        depth = shard.depth[0, 1, view, int(v), int(u)] / 100 + 700
        assert abs(depth - z) < 4, view
        # Seen there, the surface is the nose's.
        assert np.linalg.norm(unproject(camera, np.array([[u, v, depth]])) - nose) < 4


def test_tars_and_folders_hold_the_same(tmp_path: Path) -> None:
    heads = [shipped_head()]
    for tars in (False, True):
        list(make_population(CONFIG, heads, tmp_path / str(tars), num_persons=2, tars=tars))
    folder = read_kind(ViewShard, shard_folders(tmp_path / "False")[0])
    tar = TarShards(ViewShard, tmp_path / "True").first()
    for name in names_of(ViewShard):
        np.testing.assert_array_equal(getattr(folder, name), getattr(tar, name))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_kind(Shard, shard_folders(tmp_path / "False")[0])


def test_poses_stay_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(200):
        pose = draw_pose(rng, 2.5, 4.0)
        angles.append(np.degrees(np.arccos(np.clip((np.trace(pose[:3, :3]) - 1) / 2, -1, 1))))
    assert 1.5 < max(angles) <= 2.5
    assert np.median(angles) < 0.8


def test_a_population_without_a_rig_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a rig"):
        render_views(replace(CONFIG, rig=None), [0], [shipped_head()])
