"""The reconstruction table: a row per run, measured once, of what went through the latent."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.errors import CheckpointError, ConfigError
from omote.evaluation.features import FeatureExtractor
from omote.evaluation.ground_truth import GroundTruth
from omote.geometry.camera import orbit_camera
from omote.progress import finish
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.studies import first_stage
from omote.studies.base import run_study
from omote.studies.first_stage import weights_folder
from omote.studies.suites import FirstStageSuite, row_names
from omote.types import Rgbd

SIZE = 64


def squared(a, b):
    return (a - b).square().mean(dim=(1, 2, 3))


def pooled(rgb):
    return torch.nn.functional.adaptive_avg_pool2d(rgb, 2).flatten(1).double()


@pytest.fixture(autouse=True)
def faces(monkeypatch):
    """Two bulging discs with fine stripes instead of rendered persons."""
    camera = orbit_camera(size=SIZE)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    radius = x**2 + y**2
    mask = radius < 0.7
    images = [
        Rgbd(
            rgb=np.repeat(0.5 + 0.3 * np.sin(25 * (x + k * y))[..., None], 3, 2).astype(np.float32) * mask[..., None],
            depth_mm=(mask * (700 - 60 * (1 - radius) + 2 * np.sin(25 * x))).astype(np.float32),
            mask=mask,
            camera=camera,
        )
        for k in range(2)
    ]
    landmarks = np.full((2, 68, 2), SIZE / 2) + np.linspace(-12, 12, 68)[:, None]
    truth = GroundTruth(images=images, landmarks_px=landmarks, landmarks_mm=np.zeros((2, 68, 3)))
    monkeypatch.setattr(first_stage, "render_persons", lambda population, persons, size: truth)
    monkeypatch.setattr(first_stage, "load_extractor", lambda name: FeatureExtractor(name=name, forward=pooled))
    monkeypatch.setattr(first_stage, "perceptual_distances", lambda path: {"perceptual/hed_vgg16_all": squared})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Untrained, so each is its pooled image upsampled: more is lost at a higher f."""
    folder = tmp_path_factory.mktemp("runs")
    small = {"sample_size": SIZE, "fine_channels": 16, "learned_channels": 2, "blocks": 1}
    RgbdAutoencoder(**small, patch=2, channels=(16,)).save_pretrained(folder / "kl-f2/export/autoencoder")
    vq = RgbdAutoencoder(**small, patch=4, channels=(16, 16), regularisation="vq", num_codes=32)
    vq.save_pretrained(folder / "vq-f8/export/autoencoder")
    return folder


def test_rows_are_measured_once_and_tell_f_apart(runs, tmp_path):
    suite = FirstStageSuite(runs=(runs / "kl-f2", runs / "vq-f8"), persons=1)
    finish(run_study(suite, tmp_path))
    with (tmp_path / "table.csv").open() as file:
        kl, vq = csv.DictReader(file)
    assert (kl["row"], kl["model/f"], kl["model/vq"]) == ("kl-f2", "2", "0")
    assert (vq["row"], vq["model/f"], vq["model/vq"], vq["model/latent_values"]) == ("vq-f8", "8", "1", str(7 * 8 * 8))
    better = ("color/psnr_db_all", "color/psnr_db_mouth_all", "color/ssim_all", "mask/iou")
    worse = ("depth/mae_mm_metric", "depth/rmse_mm_metric", "depth/normals_deg", "fd/face_id_mean_crop",
             "perceptual/hed_vgg16_all")  # fmt: skip
    assert all(float(kl[key]) > float(vq[key]) for key in better)
    assert all(float(kl[key]) < float(vq[key]) for key in worse)
    assert kl["codebook/perplexity"] == ""
    assert 1 <= float(vq["codebook/perplexity"]) <= 32
    # A second run reads; a row of other weights would be measured anew.
    path = next((tmp_path / "rows").glob("kl-f2.*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "color/ssim_all": 0.125}))
    finish(run_study(replace(suite, runs=suite.runs[:1]), tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text())["color/ssim_all/kl-f2"] == 0.125


def test_what_is_no_first_stage_is_refused(runs, tmp_path):
    assert weights_folder(runs / "kl-f2") == runs / "kl-f2/export/autoencoder" == weights_folder(runs / "kl-f2/export")
    with pytest.raises(CheckpointError, match="export/autoencoder"):
        weights_folder(tmp_path)
    with pytest.raises(ConfigError, match="different names"):
        row_names((runs / "kl-f2", runs / "kl-f2"))
