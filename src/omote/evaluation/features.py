"""Features of pictures by named networks, for Fréchet and kernel distances, precision, recall and perceptual distances.

The network's name is the last part of a metric's key (``fd/efficientnet_lite0``, ``perceptual/lpips_vgg16``). Two extractors are
installed with the judges; the field's standard networks are read from a file given by the user, and only then have their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omote.errors import CheckpointError
from omote.evaluation.judges.crop import cut, square_between
from omote.evaluation.judges.panel import IdentityJudge, load_identity_judge
from omote.evaluation.judges.weights import EFFICIENTNET_FILE, locate, read_features
from omote.evaluation.networks.arcface import BLOCKS, TEMPLATE_PX, ArcFace
from omote.evaluation.networks.arcface import SIZE as ARCFACE_SIZE
from omote.evaluation.networks.clip import SIZE as CLIP_SIZE
from omote.evaluation.networks.clip import ClipVitB32
from omote.evaluation.networks.efficientnet import SIZE as EFFICIENTNET_SIZE
from omote.evaluation.networks.efficientnet import EfficientNetLite0
from omote.evaluation.networks.inception import SIZE as INCEPTION_SIZE
from omote.evaluation.networks.inception import InceptionV3
from omote.evaluation.networks.loading import fill, load_checked
from omote.evaluation.networks.vgg import LpipsVgg16

ExtractorName = Literal[
    "efficientnet_lite0",
    "face_id",
    "face_id_mean_crop",
    "inception_v3",
    "clip_vit_b32",
    "arcface_r50",
    "arcface_r100",
]
PerceptualName = Literal["efficientnet_lite0", "lpips_vgg16"]

# Positions of the mean face's eye centre and chin at the standard camera, as shares of the image side.
MEAN_EYES_AND_CHIN = ((0.5000116590496769, 0.3831802680501988), (0.500370922907387, 0.8686956376551931))

CHUNK = 16  # pictures per forward pass; limits memory, and does not change results

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
    """A network and its crop of a picture.

    Attributes:
        name: name of the network in a metric's key.
        forward: function from the network's input to features.
        cut: function from pictures in [0, 1] to the network's input.
        cut_face: the same with the true neutral landmarks, for networks of faces; None for all others.
        size: side of the network's input; None if that is no whole picture.
        classify: function from features to class probabilities; None for a network without classes.
    """

    name: str
    forward: Forward
    cut: Callable[[Tensor], Tensor] = lambda rgb: rgb
    cut_face: Callable[[Tensor, Tensor], Tensor] | None = None
    size: int | None = None
    classify: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def __call__(
        self, rgb: Float[Tensor, "b 3 h w"], neutral_landmarks_px: Float[Tensor, "b 68 2"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Features of pictures.

        Args:
            rgb: colours in [0, 1].
            neutral_landmarks_px: true neutral landmarks, needed only with ``cut_face``.
        """
        rgb, parts = rgb.float(), []
        for chunk in (slice(i, i + CHUNK) for i in range(0, len(rgb), CHUNK)):
            if self.cut_face is None:
                seen = self.cut(rgb[chunk])
            else:
                assert neutral_landmarks_px is not None, f"{self.name} cuts faces by their landmarks"
                seen = self.cut_face(rgb[chunk], neutral_landmarks_px[chunk].float())
            parts.append(self.forward(seen))
        return torch.cat(parts)


def load_extractor(name: ExtractorName, path: Path | None = None) -> FeatureExtractor:
    """Load an extractor.

    Args:
        name: "efficientnet_lite0" and the identity judge's descriptors are installed with the judges: "face_id" of a face
            cropped by its landmarks, and "face_id_mean_crop" of the mean face's place at the standard camera, for generated
            faces, which have no landmarks. The others need a path.
        path: .safetensors file with the published names: "inception_v3" as in pytorch-fid, "clip_vit_b32" as in
            openai/clip-vit-base-patch32 on the Hugging Face hub, "arcface_*" as in insightface's iresnet backbones.

    Raises:
        CheckpointError: no path is given, or the file does not contain that network.
        JudgeError: the judges' weights are not installed.
    """
    if name == "efficientnet_lite0":
        lite = _efficientnet()
        return _of_whole_pictures(name, lite, EFFICIENTNET_SIZE, classify=lite.probabilities)
    if name == "face_id":
        judge = load_identity_judge()
        return FeatureExtractor(name=name, cut_face=judge.cut, forward=judge.net)
    if name == "face_id_mean_crop":
        judge = load_identity_judge()
        return FeatureExtractor(name=name, cut=_mean_face(judge), forward=judge.net)
    if name == "inception_v3":
        inception = load_checked(InceptionV3(), path, name)
        return _of_whole_pictures(name, inception, INCEPTION_SIZE, classify=inception.probabilities)
    if name == "clip_vit_b32":
        network = load_checked(ClipVitB32(), path, name, ignored=("text_model.", "text_projection", "logit_scale"))
        return _of_whole_pictures(name, network, CLIP_SIZE, mode="bicubic")
    if name in BLOCKS:
        return FeatureExtractor(
            name=name, cut_face=arcface_cut, forward=load_checked(ArcFace(BLOCKS[name]), path, name)
        )
    raise CheckpointError(f"expected a network of {', '.join(get_args(ExtractorName))}, got {name!r}")


def load_arcface(path: Path) -> FeatureExtractor:
    """Load an ArcFace backbone, which is named by its depth.

    Raises:
        CheckpointError: the file contains neither of the two backbones.
    """
    try:
        return load_extractor("arcface_r50", path)
    except CheckpointError as error:
        try:
            return load_extractor("arcface_r100", path)
        except CheckpointError:
            raise error from None


def _efficientnet() -> EfficientNetLite0:
    tensors = read_features(locate([EFFICIENTNET_FILE]))
    return fill(EfficientNetLite0(), tensors, f"{EFFICIENTNET_FILE}: not efficientnet_lite0")


def _of_whole_pictures(
    name: str, network: nn.Module, size: int, mode: str = "bilinear", classify: Callable[[Tensor], Tensor] | None = None
) -> FeatureExtractor:
    def enlarged(rgb: Tensor) -> Tensor:
        # Renders are smaller than the networks' inputs: enlarging needs no filter against aliasing.
        return F.interpolate(rgb, (size, size), mode=mode, align_corners=False)

    return FeatureExtractor(name=name, forward=network, cut=enlarged, size=size, classify=classify)


def _mean_face(judge: IdentityJudge) -> Callable[[Tensor], Tensor]:
    def cut_there(rgb: Tensor) -> Tensor:
        points = torch.tensor(MEAN_EYES_AND_CHIN, dtype=rgb.dtype) * rgb.shape[-1]
        return cut(rgb, square_between(points.expand(len(rgb), 2, 2), judge.crop), judge.net.SIZE)

    return cut_there


def arcface_cut(rgb: Float[Tensor, "b 3 h w"], landmarks_px: Float[Tensor, "b 68 2"]) -> Float[Tensor, "b 3 112 112"]:
    """Faces aligned as in ArcFace's training: the similarity that best moves five points onto its template.

    References:
        Umeyama, IEEE TPAMI 1991, in the plane, where rotation and scale are one complex number.
    """
    points = torch.stack(
        [
            landmarks_px[:, 36:42].mean(1),
            landmarks_px[:, 42:48].mean(1),
            landmarks_px[:, 30],
            landmarks_px[:, 48],
            landmarks_px[:, 54],
        ],
        dim=1,
    ).double()
    template = torch.tensor(TEMPLATE_PX, dtype=torch.float64)
    # From the template to the picture, the direction in which pixels are sampled.
    t = torch.view_as_complex((template - template.mean(0)).contiguous())
    p = torch.view_as_complex((points - points.mean(1, keepdim=True)).contiguous())
    turn = (t.conj() * p).sum(1) / (t.abs() ** 2).sum()
    v, u = torch.meshgrid(*(torch.arange(ARCFACE_SIZE) + 0.5,) * 2, indexing="ij")
    cell = torch.view_as_complex((torch.stack([u, v], dim=-1) - template.mean(0)).contiguous())
    fetched = torch.view_as_real(turn[:, None, None] * cell) + points.mean(1)[:, None, None]
    size = torch.tensor([rgb.shape[3], rgb.shape[2]], dtype=torch.float64)
    grid = (2 * fetched / size - 1).to(rgb.dtype)
    return F.grid_sample(rgb, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class PerceptualDistance:
    """Distance of two pictures by a network's feature maps; its name belongs in the metric's key.

    Attributes:
        name: "lpips_vgg16" is LPIPS; distances of other names are not comparable with it.
        stages: function from pictures to feature maps.
        weights: weights of each map's channels; None weights all channels equally.
        size: side to which pictures are enlarged, or None.
    """

    name: str
    stages: Callable[[Tensor], list[Tensor]]
    weights: list[Tensor] | None = None
    size: int | None = None

    @torch.no_grad()
    def __call__(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Distance per pair of pictures in [0, 1]: Σ over maps of mean over positions of Σ_c w_c (â_c - b̂_c)², â of unit length.

        References:
            Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1.
        """
        chunks = [slice(i, i + CHUNK) for i in range(0, len(a), CHUNK)]
        return torch.cat([self.between(self.maps(a[chunk]), self.maps(b[chunk])) for chunk in chunks])

    @torch.no_grad()
    def maps(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps of pictures in [0, 1], of unit length at every position."""
        x = x.float()
        if self.size is not None:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return [y / (y.norm(dim=1, keepdim=True) + 1e-10) for y in self.stages(x)]

    def between(self, a: list[Tensor], b: list[Tensor]) -> Float[Tensor, " b"]:
        """The distance of pictures from their `maps`, to compare many rows with one ground truth."""
        total = a[0].new_zeros(len(a[0]))
        for k, (p, q) in enumerate(zip(a, b, strict=True)):
            squared = (p - q) ** 2
            if self.weights is not None:
                squared = squared * self.weights[k].view(1, -1, 1, 1)
            total = total + squared.sum(dim=1).mean(dim=(1, 2))
        return total


def load_perceptual(name: PerceptualName, path: Path | None = None) -> PerceptualDistance:
    """Load a perceptual distance.

    Args:
        name: "efficientnet_lite0" is installed with the judges; "lpips_vgg16" needs a path.
        path: .safetensors file with torchvision's ``features.*`` of VGG16 and LPIPS' ``lin0``-``lin4.model.1.weight``.

    Raises:
        CheckpointError: no path is given, or the file does not contain that network.
        JudgeError: the judges' weights are not installed.
    """
    if name == "efficientnet_lite0":
        return PerceptualDistance(name=name, stages=_efficientnet().stages, size=EFFICIENTNET_SIZE)
    network = load_checked(LpipsVgg16(), path, name, ignored=("classifier.",))
    return PerceptualDistance(name=name, stages=network.stages, weights=network.weights())
