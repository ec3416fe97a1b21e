"""The stages of the candidates, trained for seconds on six persons."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import omote
from omote.datasets.population import PopulationConfig
from omote.engine.weights import load_pretrained
from omote.errors import CheckpointError, ConfigError
from omote.geometry.rig import rig_of
from omote.head.shipped import shipped_head
from omote.multiview.first_stage import ViewAutoencoder
from omote.multiview.model import ViewEditSettings, load_view_editor
from omote.multiview.to_3d import ViewsToMesh
from omote.multiview.train_denoiser import ViewDenoiserTask
from omote.multiview.views import views_of
from omote.pipelines.latent_views import LatentViewsPipeline
from omote.pipelines.settings import AvatarSettings
from omote.recipes.multiview import candidate1_tiny
from omote.rgbd.codec import pack_images
from omote.types import Expression, Mesh


def test_first_stages_hold_their_own_channels(candidate_runs: Path) -> None:
    x = torch.rand(2, 5, 128, 128) * 2 - 1
    for run, latent in (("views-stage", 6), ("views-stage-rgbd", 7)):
        stage = load_pretrained(ViewAutoencoder, candidate_runs / run / "export/first_stage")
        z = stage.encoded(x)
        assert z.shape == (2, latent, 16, 16)
        assert stage.decoded(z).shape == x.shape
    # A stage of colour reads no depth.
    colour = load_pretrained(ViewAutoencoder, candidate_runs / "views-stage/export/first_stage")
    deeper = x.clone()
    deeper[:, 3] += 1
    torch.testing.assert_close(colour.encoded(x), colour.encoded(deeper))
    assert torch.equal(colour.decoded(colour.encoded(x), x)[:, 3], x[:, 3])


def test_views_to_mesh_is_exported_whole(candidate_runs: Path) -> None:
    network = load_pretrained(ViewsToMesh, candidate_runs / "to3d/export/to_3d")
    assert network.rig.num_views == 3
    assert network.ridge.any()
    assert network.basis.components.any()


def test_a_first_stage_of_views_of_another_size_is_refused(candidate_runs: Path) -> None:
    small = PopulationConfig(size=64, num_images=2, rig=rig_of(["3"]))
    config = replace(candidate1_tiny(candidate_runs), population=small)
    with pytest.raises(ConfigError, match="first_stage: expected one of views of 64 × 64 pixels, .* got 128 × 128"):
        ViewDenoiserTask(config, [shipped_head()])


@pytest.fixture(scope="module")
def candidates(candidate_runs: Path) -> dict[str, Path]:
    """Folders of both candidates as `omote avatar --weights` takes them."""
    return {"multiview": candidate_runs / "candidate1/export", "latent-views": candidate_runs / "candidate2/export"}


def test_a_candidate_edits_every_expression_by_itself(candidates: dict[str, Path]) -> None:
    head = shipped_head()
    for folder in candidates.values():
        editor = load_view_editor(folder, head)
        x = pack_images(views_of(head_mesh(), editor.rig, 128).images)
        wanted = [Expression(category="happy"), Expression(category="angry")]
        settings = ViewEditSettings(steps=2, seed=4)
        both = editor.edit(x, wanted, settings)
        assert both.views.shape == (3, 3, 5, 128, 128)
        assert both.vertices_mm.shape == (3, len(editor.face.ids), 3)
        second = editor.edit(x, wanted[1:], ViewEditSettings(steps=2, seed=5))
        torch.testing.assert_close(second.views[1], both.views[2], atol=1e-4, rtol=1e-4)
        # A weight of zero takes the depth's part out; candidate 2 has none to take.
        blind = editor.edit(x, wanted, ViewEditSettings(steps=2, seed=4, depth_weight=0.0))
        assert torch.equal(blind.views, both.views) == (editor.encoder is not None)


def test_avatars_of_both_candidates_come_out_whole(candidates: dict[str, Path], tmp_path: Path) -> None:
    mesh, head = head_mesh(), shipped_head()
    for pipeline, weights in candidates.items():
        settings = AvatarSettings(
            pipeline=pipeline,
            weights=weights,
            expressions=("happy",),
            landmarks=head.landmarks(mesh.vertices),
            unit="mm",
        )
        result = omote.avatar(mesh, settings)
        assert set(result.generated) == {"happy"}
        moved = np.linalg.norm(result.avatar.morphs_mm["happy"], axis=1)
        assert np.isfinite(moved).all()
        assert result.facts["views/count"] == 3
        result.save(tmp_path / f"{pipeline}.glb")


def test_networks_of_the_other_candidate_and_none_are_refused(candidates: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --pipeline multiview"):
        LatentViewsPipeline(load_view_editor(candidates["multiview"], shipped_head()), shipped_head())
    with pytest.raises(CheckpointError, match="train candidate1-cpu"):
        omote.avatar(head_mesh(), AvatarSettings(pipeline="multiview", weights=tmp_path))


def head_mesh() -> Mesh:
    head = shipped_head()
    colors = np.clip(0.5 + head.template_mm / 300, 0, 1)
    return Mesh(vertices=head.template_mm.astype(np.float64), faces=head.faces, vertex_colors=colors)
