"""The 3D encoder's geometry."""

from pathlib import Path

import torch

from omote.datasets.cache import read_kind, shard_folders
from omote.datasets.view_shards import ViewShard
from omote.geometry.camera import FRONT_TARGET_MM
from omote.head.shipped import shipped_head
from omote.multiview.data import sets_of
from omote.multiview.voxels import SIDE_MM, VOXELS, ColoredPoints, VoxelEncoder, points_of_views, voxelised


def test_points_of_views_lie_on_the_head(view_runs: Path) -> None:
    from scipy.spatial import cKDTree

    shard = read_kind(ViewShard, shard_folders(view_runs / "views")[0])
    points = points_of_views(sets_of(shard, [(0, 0), (1, 0)]).x, shard.rig)
    for face in (0, 1):
        pose, identity = shard.pose[face, 0], shard.identity[face]
        vertices = shipped_head().vertices(identity, shard.arkit[face, 0]) @ pose[:3, :3].T + pose[:3, 3]
        distance, _ = cKDTree(vertices).query(points.points_mm[points.item == face].numpy())
        assert torch.from_numpy(distance).median() < 2.0


def test_a_voxel_holds_where_its_points_are() -> None:
    target = torch.as_tensor(FRONT_TARGET_MM, dtype=torch.float32)
    side = SIDE_MM / VOXELS
    place = target + torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [1000.0, 0, 0]]) * side
    points = ColoredPoints(
        points_mm=place, colors=torch.tensor([[1.0, 0, 0], [0, 0, 0], [1, 1, 1]]), item=torch.zeros(3).long(), count=1
    )
    grid = voxelised(points)[0]
    middle = VOXELS // 2
    assert grid[0].sum() == 1, "one voxel, and nothing of what is outside"
    torch.testing.assert_close(grid[2:5, middle, middle, middle], torch.tensor([0.5, 0, 0]))
    torch.testing.assert_close(grid[5:8, middle, middle, middle], torch.tensor([-0.3, -0.3, -0.3]), atol=1e-4, rtol=0)


def test_what_stands_before_hides_what_is_behind() -> None:
    encoder = VoxelEncoder(
        latent_size=4, latent_channels=3, yaw_deg=(0.0,), pitch_deg=(0.0,), widths=(4, 8), view_width=16
    ).eval()
    y, x = torch.meshgrid(torch.arange(-60.0, 60, 2), torch.arange(-60.0, 60, 2), indexing="ij")
    target = torch.as_tensor(FRONT_TARGET_MM, dtype=torch.float32)

    def wall(*depths: float, shade: float) -> ColoredPoints:
        points = torch.cat([torch.stack([x, y, torch.full_like(x, d)], dim=-1).view(-1, 3) for d in depths]) + target
        colors = torch.full_like(points, 0.2)
        colors[len(points) // len(depths) :] = shade
        return ColoredPoints(points_mm=points, colors=colors, item=torch.zeros(len(points)).long(), count=1)

    torch.nn.init.constant_(encoder.density[-1].bias, 8.0)
    with torch.no_grad():
        dark, light = (encoder(wall(40.0, -60.0, shade=s)) for s in (-1.0, 1.0))
        seen, other = (encoder(wall(40.0, shade=s)) for s in (0.2, 0.2))
        front, changed = encoder(wall(40.0, shade=0.2)), encoder(wall(20.0, shade=0.2))
    torch.testing.assert_close(seen, other)
    middle = slice(1, 3)
    hidden = (dark - light)[..., middle, middle].abs().max()
    moved = (front - changed)[..., middle, middle].abs().max()
    assert hidden < 0.2 * moved
