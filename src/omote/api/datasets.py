"""``omote.data``: the contents of a dataset of scans, and its scans as shards for training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omote.datasets.layouts.layout import Problem, ScanItem, problem_of, usable
from omote.datasets.layouts.registry import LayoutName, list_items
from omote.datasets.layouts.report import DatasetReport, report_on
from omote.datasets.layouts.splits import DATASET_SPLITS, split_of
from omote.errors import ConfigError, DatasetError, ScanError
from omote.files import atomic_path, check_file, check_folder
from omote.progress import Step, Steps, finish
from omote.shards.mapping import Execution
from omote.shards.worker import Limits
from omote.types import Unit

SplitName = Literal["train", "validation", "test", "all"]
LONGEST_SCAN_S = 600.0


@dataclass(frozen=True, kw_only=True)
class RenderedDataset:
    """The result of `render_dataset`, including earlier runs.

    Attributes:
        num_subjects: number of subjects with a shard.
        num_images: number of images in all shards.
        num_doubtful: number of images whose pose has low confidence; they are kept.
        num_given_up: number of subjects without a usable neutral scan.
        problems: skipped scans, with reasons.
        notes: notes of the reader about used scans.
    """

    num_subjects: int
    num_images: int
    num_doubtful: int
    num_given_up: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def data(
    folder: Path | str,
    *,
    layout: LayoutName = "auto",
    seed: int = 0,
    quick: bool = False,
    report: Path | str | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> DatasetReport:
    """Report the contents of a dataset, its problems, and the scans that will be used.

    Args:
        folder: folder of the dataset.
        layout: "facescape", "bu3dfe", "coma", "florence4d", "headspace" or "generic"; "auto" detects it.
        seed: seed of the splits.
        quick: check names only, without opening every scan.
        report: path of a JSON report, or None.
        on_step: function called with each step.

    Raises:
        DatasetError: the folder has no known layout, or no usable scan.
        OutputError: ``report`` cannot be written.
    """
    folder, report = Path(folder), None if report is None else Path(report)
    check_file(report, (".json",))
    found, listing = list_items(folder, layout)
    problems: list[Problem] = []
    notes: list[Problem] = []
    good = list(listing.items) if quick else finish(_opened(listing.items, problems, notes), on_step)
    subjects, lone = usable(good, folder)
    result = report_on(
        folder,
        found,
        listing,
        used=[item for items in subjects for item in items],
        problems=[*problems, *lone],
        notes=notes,
        opened=not quick,
        seed=seed,
    )
    if report is not None:
        with atomic_path(report) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if not result.num_used:
        raise DatasetError(
            f"{folder}: nothing can be used of {len(listing.items):,} scans in the layout of {found.title}; the first "
            f"problem: {result.problems[0].path.name}: {result.problems[0].reason}"
        )
    return result


def _opened(items: tuple[ScanItem, ...], problems: list[Problem], notes: list[Problem]) -> Steps[list[ScanItem]]:
    """The readable items; the others are added to ``problems``, and the reader's notes to ``notes``."""
    from omote.rgbd.train.dataset_shards import read_item

    good = []
    for number, item in enumerate(items):
        yield Step(stage="read", done=number, total=len(items), note=item.geometry.name)
        try:
            notes += read_item(item)[1]
        except ScanError as error:
            problems.append(problem_of(item.geometry, error))
        else:
            good.append(item)
    return good


def render_dataset(
    folder: Path | str,
    out: Path | str,
    *,
    layout: LayoutName = "auto",
    split: SplitName = "train",
    seed: int = 0,
    size: int = 128,
    unit: Unit = "auto",
    execution: Execution | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> RenderedDataset:
    """Align and render a dataset's scans into shards, one per subject; existing shards are kept.

    Args:
        folder: folder of the dataset.
        out: folder of the shards, made if missing; a recipe takes it as ``population``.
        layout: layout of the folder, as for `data`.
        split: split of the subjects.
        seed: seed of the splits.
        size: side of the images in pixels.
        unit: unit of the scans' coordinates; "auto" estimates it for each.
        execution: where the shards are rendered; if None, in this process.
        on_step: function called with each step.

    Raises:
        ConfigError: a number out of range, or ``out`` holds shards of another size.
        DatasetError: the folder has no known layout, or no usable scan.
        OutputError: ``out`` cannot be written.
    """
    folder, out = Path(folder), Path(out)
    if not 16 <= size <= 4096:
        raise ConfigError(f"size: expected 16 to 4096, got {size}")
    if split not in (*DATASET_SPLITS, "all"):
        raise ConfigError(f"split: expected one of {', '.join(DATASET_SPLITS)}, all, got {split!r}")
    check_folder(out)
    found, listing = list_items(folder, layout)
    subjects, lone = usable(listing.items, folder)
    chosen = [items for items in subjects if split in ("all", split_of(items[0].subject, seed))]
    if not chosen:
        raise DatasetError(
            f"{folder}: expected subjects in the split {split}, got none of {len(subjects):,} with a neutral scan; "
            "choose another --split or --seed"
        )

    from omote.head.shipped import shipped_head
    from omote.rgbd.train.dataset_shards import DatasetRender, SubjectDone, make_dataset_shards

    config = DatasetRender(
        dataset=found.name,
        folder=folder,
        size=size,
        unit=None if unit == "auto" else unit,
        split=None if split == "all" else split,
        seed=seed,
    )

    place = (execution or Execution(workers=1)).place(Limits(item_s=LONGEST_SCAN_S), alone=True)

    def subjects_rendered() -> Steps[list[SubjectDone]]:
        done = []
        yield Step(stage="render", done=0, total=len(chosen))
        for subject in make_dataset_shards(chosen, config, shipped_head(), out, executor=place):
            done.append(subject)
            yield Step(stage="render", done=len(done), total=len(chosen), note=subject.subject)
        return done

    done = finish(subjects_rendered(), on_step)
    if not done:
        raise ConfigError(f"--world: expected at most {len(chosen):,} parts, one a subject; give fewer")
    problems = [*listing.problems, *lone, *(p for subject in done for p in subject.problems)]
    rendered = [subject for subject in done if subject.num_images]
    if not rendered:
        raise DatasetError(
            f"{folder}: no subject of {len(chosen):,} could be rendered; the first problem: "
            f"{problems[0].path.name}: {problems[0].reason}"
        )
    return RenderedDataset(
        num_subjects=len(rendered),
        num_images=sum(subject.num_images for subject in rendered),
        num_doubtful=sum(subject.num_doubtful for subject in rendered),
        num_given_up=len(done) - len(rendered),
        problems=tuple(problems),
        notes=tuple(note for subject in done for note in subject.notes),
    )
