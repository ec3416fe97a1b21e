"""Comparison of two folders of images as sets, beside published results of other systems.

The images may come from any generator. A Fréchet distance depends on the number of images, the reference set, the resize filter
and the sampler, so all four are reported with it (Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN
Evaluation", CVPR 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from omote.config import Range
from omote.errors import DatasetError
from omote.evaluation.records import Row
from omote.images.packed import image_names, open_image
from omote.progress import Steps
from omote.runs import Value
from omote.studies.base import FREE, Results, Study, Work

if TYPE_CHECKING:
    import numpy as np

    from omote.evaluation.image_sets import ImageNetworks, ImageSet

# Number of images per file of features.
PER_FILE = 256
GENERATED = Row("generated")
FEWEST = 5  # more than the three neighbours of precision and recall
COLUMNS = ("fd", "kid", "precision", "recall", "is")
TITLES = ("FID ↓", "KID ↓", "precision ↑", "recall ↑", "IS ↑")


@dataclass(frozen=True, kw_only=True)
class ImageSuite(Study):
    """Two folders of images compared as sets: FID, KID, precision, recall and Inception score, beside published results.

    Attributes:
        generated: folder of the generated images, including its subfolders.
        reference: folder of the reference images.
        features: networks, as NAME or NAME=PATH (docs/evaluation.md): efficientnet_lite0, inception_v3, clip_vit_b32, and
            lpips_vgg16 for distances of pairs.
        resize: filter that resizes an image to a network's input size.
        sampler: description of the sampler of the generated images, for the report.
        manifold_images: largest number of images of each folder, chosen at random, for precision and recall.
        seed: seed of all random choices.
    """

    NAME = "images"

    generated: Path
    reference: Path
    features: tuple[str, ...] = ("efficientnet_lite0",)
    resize: Literal["bilinear", "bilinear_antialiased", "bicubic_antialiased"] = "bilinear_antialiased"
    sampler: Annotated[str, FREE] = "not said"
    manifold_images: Annotated[int, Range(FEWEST), FREE] = 10_000
    seed: Annotated[int, FREE] = 0

    def check(self) -> None:
        """Reject folders without enough images, and missing networks."""
        from omote.evaluation.image_sets import load_image_networks

        for folder in (self.generated, self.reference):
            if (count := len(image_names(folder))) < FEWEST:
                raise DatasetError(f"{folder}: expected at least {FEWEST} images to compare as a set, got {count}")
        load_image_networks(self.features)

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the two folders, from the names and sizes of their files."""
        return {"generated": _fingerprint(self.generated), "reference": _fingerprint(self.reference)}

    def run(self, work: Work) -> Steps[Results]:
        """Compare the folders."""
        from omote.evaluation.image_sets import SetDistances, load_image_networks, set_distances

        networks = load_image_networks(self.features)
        generated = yield from self._features(work, "generated", self.generated, networks)
        reference = yield from self._features(work, "reference", self.reference, networks)
        config = SetDistances(manifold_images=self.manifold_images, seed=self.seed)
        cells: dict[str, float] = {}
        for extractor in networks.extractors:
            cells |= set_distances(generated, reference, extractor, config, networks.device)
        if networks.perceptual is not None:
            cells |= yield from self._pairs(work, networks)
        numbers = {
            "count/generated_images": generated.count,
            "count/reference_images": reference.count,
            "count/manifold_images": min(self.manifold_images, generated.count, reference.count),
            "count/kid_subset_size": min(config.kid_subset_size, generated.count, reference.count),
        }

        def page(out: Path) -> None:
            from omote.evaluation.report import html

            found = {f"{key}/generated": value for key, value in cells.items()} | numbers
            html.write(out / "report.html", "Comparison of two sets of images", self._sections(found))

        return Results(table={GENERATED: cells}, numbers=numbers, facts=self._facts(), page=page)

    def _features(self, work: Work, name: str, folder: Path, networks: ImageNetworks) -> Steps[ImageSet]:
        from omote.evaluation.image_sets import ImageSet, save_image_features

        paths = [folder / image for image in image_names(folder)]
        parts = {f"{name}_{i:06d}": paths[i : i + PER_FILE] for i in range(0, len(paths), PER_FILE)}
        files = {part: work.out / "features" / f"{part}.safetensors" for part in parts}
        files[f"{name}_000000"].parent.mkdir(parents=True, exist_ok=True)

        def make(part: str) -> Steps[None]:
            save_image_features(files[part], _read(parts[part]), networks, self.resize)
            yield from ()

        yield from work.items({part: [path] for part, path in files.items()}, make, stage=name)
        return ImageSet(files=tuple(files.values()), count=len(paths))

    def _pairs(self, work: Work, networks: ImageNetworks) -> Steps[dict[str, float]]:
        """Perceptual distances from reference images of the same name, if any, and among the generated images."""
        import numpy as np

        from omote.evaluation.image_sets import LPIPS, pair_distances

        assert networks.perceptual is not None
        names = image_names(self.generated)
        others = [names[i] for i in np.roll(np.random.default_rng(self.seed).permutation(len(names)), 1)]
        same = [name for name in names if (self.reference / name).is_file()]
        cells = {}
        for key, pairs in (
            ("diversity", [(self.generated / a, self.generated / b) for a, b in zip(names, others, strict=True)]),
            ("perceptual_pairs", [(self.generated / name, self.reference / name) for name in same]),
        ):
            parts = {f"{i:06d}": pairs[i : i + PER_FILE] for i in range(0, len(pairs), PER_FILE)}

            def measure(
                part: str, parts: Mapping[str, Sequence[tuple[Path, Path]]] = parts
            ) -> Mapping[str, list[float]]:
                a, b = (_read([pair[k] for pair in parts[part]]) for k in (0, 1))
                return {"values": pair_distances(a, b, networks, self.resize)}

            found = yield from work.records(key, list(parts), measure)
            if values := [value for record in found.values() for value in record["values"]]:
                cells[f"{key}/{LPIPS}"] = float(np.mean(values))
        return cells

    def _facts(self) -> dict[str, Value]:
        from omote.evaluation.image_sets import described

        return {"run/resize": described(self.resize), "run/sampler": self.sampler, "run/reference": str(self.reference)}

    def _caption(self, numbers: Mapping[str, float | int]) -> str:
        facts = self._facts()
        return (
            f"{numbers['count/generated_images']:,} images of {self.generated} against {numbers['count/reference_images']:,} of "
            f"{self.reference}. Resize: {facts['run/resize']}. Sampler: {self.sampler}. Precision and recall: "
            f"{numbers['count/manifold_images']:,} images of each. KID: subsets of {numbers['count/kid_subset_size']:,}."
        )

    def _rows(self, numbers: Mapping[str, float | int]) -> Iterator[tuple[str, ...]]:
        from omote.evaluation.image_sets import SET_NETWORKS

        for name in SET_NETWORKS:
            if f"fd/{name}/generated" in numbers:
                values = [numbers.get(f"{column}/{name}/generated") for column in COLUMNS]
                label = "inception_v3" if name == "inception_v3" else f"{name} (no FID)"
                yield label, *("–" if value is None else f"{value:.4g}" for value in values)

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """A text table of the results beside the published ones."""
        from omote.evaluation.report.published import PROTOCOL, published_rows

        rows = [("this", *TITLES), *self._rows(numbers)]
        rows += [("published", *TITLES), *((f"{data}: {system}", *cells) for data, system, *cells in published_rows())]
        wide = max(len(row[0]) for row in rows)
        lines = [f"{row[0]:<{wide}}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows]
        return "\n".join([self._caption(numbers), *lines, PROTOCOL])

    def _sections(self, numbers: Mapping[str, float | int]) -> Iterator[str]:
        from omote.evaluation.report import html
        from omote.evaluation.report.published import published_tables

        rows = [("model", [escape(cell) for cell in row]) for row in self._rows(numbers)]
        yield "<h1>Comparison of two sets of images</h1>"
        yield f"<p>{escape(self._caption(numbers))}</p>"
        yield html.table(["network", *TITLES], rows)
        yield published_tables()


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in image_names(folder):
        digest.update(f"{name} {(folder / name).stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def _read(paths: Sequence[Path]) -> list[np.ndarray]:
    import numpy as np

    return [np.asarray(open_image(path)) for path in paths]
