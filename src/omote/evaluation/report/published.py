"""Published results of other systems on other data, cited for orientation and not measured here.

References:
    Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, tables 1 and 2 (which also name the
        sources of the other systems' rows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from omote.evaluation.report import html

# System, FID, precision, recall; unconditional, 256 × 256.
UNCONDITIONAL: Mapping[str, Sequence[tuple[str, str, str, str]]] = {
    "CelebA-HQ": (
        ("DC-VAE", "15.8", "–", "–"),
        ("VQGAN+T. (k = 400)", "10.2", "–", "–"),
        ("PGGAN", "8.0", "–", "–"),
        ("LSGM", "7.22", "–", "–"),
        ("UDM", "7.16", "–", "–"),
        ("LDM-4 (500 steps)", "5.11", "0.72", "0.49"),
    ),
    "FFHQ": (
        ("ImageBART", "9.57", "–", "–"),
        ("U-Net GAN (+ aug)", "10.9 (7.6)", "–", "–"),
        ("UDM", "5.54", "–", "–"),
        ("StyleGAN", "4.16", "0.71", "0.46"),
        ("ProjectedGAN", "3.08", "0.65", "0.46"),
        ("LDM-4 (200 steps)", "4.98", "0.73", "0.50"),
    ),
    "LSUN-Churches": (
        ("DDPM", "7.89", "–", "–"),
        ("ImageBART", "7.32", "–", "–"),
        ("PGGAN", "6.42", "–", "–"),
        ("StyleGAN", "4.21", "–", "–"),
        ("StyleGAN2", "3.86", "–", "–"),
        ("ProjectedGAN", "1.59", "0.61", "0.44"),
        ("LDM-8 (200 steps)", "4.02", "0.64", "0.52"),
    ),
    "LSUN-Bedrooms": (
        ("ImageBART", "5.51", "–", "–"),
        ("DDPM", "4.9", "–", "–"),
        ("UDM", "4.57", "–", "–"),
        ("StyleGAN", "2.35", "0.59", "0.48"),
        ("ADM", "1.90", "0.66", "0.51"),
        ("ProjectedGAN", "1.52", "0.61", "0.34"),
        ("LDM-4 (200 steps)", "2.95", "0.66", "0.48"),
    ),
}
# System, FID, Inception score, parameters; MS-COCO, 256 × 256.
TEXT_CONDITIONAL: Sequence[tuple[str, str, str, str]] = (
    ("CogView", "27.10", "18.20", "4B"),
    ("LAFITE", "26.94", "26.02", "75M"),
    ("GLIDE", "12.24", "–", "6B"),
    ("Make-A-Scene", "11.84", "–", "4B"),
    ("LDM-KL-8", "23.31", "20.03 ± 0.33", "1.45B"),
    ("LDM-KL-8-G (guided)", "12.63", "30.29 ± 0.42", "1.45B"),
)


PROTOCOL = (
    "Published: other data, 50,000 samples (30,000 on MS-COCO) against the whole training set, standard Inception network; cited "
    "from Rombach et al., CVPR 2022. Others have since measured FFHQ at 9.x and CelebA-HQ at 17.4 with the same weights."
)


def published_rows() -> Iterator[tuple[str, ...]]:
    """Data, system, FID, KID, precision, recall and Inception score as text; a dash for unpublished values."""
    for data, rows in UNCONDITIONAL.items():
        for system, fid, precision, recall in rows:
            yield data, system, fid, "–", precision, recall, "–"
    for system, fid, score, _ in TEXT_CONDITIONAL:
        yield "MS-COCO, from text", system, fid, "–", "–", "–", score


def published_tables() -> str:
    """The tables as a collapsed section."""
    parts = [
        "<p>Other data, other tasks and the standard Inception network: no number here was measured by this run or can be set "
        "against one. Cited from Rombach et al., CVPR 2022, tables 1 and 2; others have since measured FFHQ at 9.x and "
        "CelebA-HQ at 17.4 with the same weights, so state N, the reference set, the resize and the sampler with every FID.</p>"
    ]
    for name, rows in UNCONDITIONAL.items():
        lines = [("bound", [escape(cell) for cell in row]) for row in rows]
        parts.append(html.table([f"{escape(name)}, unconditional", "FID ↓", "precision ↑", "recall ↑"], lines))
    lines = [("bound", [escape(cell) for cell in row]) for row in TEXT_CONDITIONAL]
    parts.append(html.table(["MS-COCO, from text", "FID ↓", "Inception score ↑", "parameters"], lines))
    return f"<details><summary>Published numbers of other systems</summary>{''.join(parts)}</details>"
