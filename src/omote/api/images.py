"""``omote.pack`` and ``omote.generate``: packing of folders of images, and generation of new images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omote.config import Range, check_ranges, nearest
from omote.diffusion.settings import SamplerName
from omote.errors import CheckpointError, ConfigError
from omote.files import atomic_path, check_folder
from omote.progress import Step

BATCH = 8


def pack(folder: Path | str, out: Path | str, *, size: int = 256, on_step: Callable[[Step], None] | None = None) -> int:
    """Pack a folder of images for training: every file is opened, checked, and resized once.

    Args:
        folder: folder of jpg, png or webp images, or of subfolders, one per class; captions in ``name.txt`` or
            ``metadata.jsonl``.
        out: new folder of the packed images.
        size: length of the shorter side in pixels.
        on_step: function called with each step.

    Returns:
        The number of images.

    Raises:
        ConfigError: a size out of range.
        DatasetError: no images, or an unreadable one; nothing is written.
        OutputError: ``out`` cannot be written, or contains something else.
    """
    if not 8 <= size <= 4096:
        raise ConfigError(f"size: expected 8 to 4096, got {size}")
    folder, out = Path(folder), Path(out)

    from omote.images.packed import list_images, pack_images

    total, count = len(list_images(folder).names), 0
    check_folder(out)
    for count in pack_images(folder, out, size=size):
        if on_step is not None:
            on_step(Step(stage="pack", done=count, total=total))
    return count


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """Settings of the sampling of images.

    Attributes:
        count: number of images.
        steps: number of sampler steps.
        sampler: name of the sampler.
        guidance_scale: scale of classifier-free guidance towards the class or text; 1 means none.
        label: name of a class; if empty, every class in turn.
        text: caption of the images, for a model trained with captions.
        seed: seed of the first image's noise; image i is a function of the run and seed + i.
    """

    count: Annotated[int, Range(1, 10_000_000)] = 16
    steps: Annotated[int, Range(1, 1000)] = 50
    sampler: SamplerName = "ddim"
    guidance_scale: Annotated[float, Range(0, 100)] = 1.0
    label: str = ""
    text: str = ""
    seed: Annotated[int, Range(0, 2**62)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)


def generate(
    run: Path | str,
    out: Path | str,
    settings: GenerateSettings | None = None,
    *,
    on_step: Callable[[Step], None] | None = None,
) -> list[Path]:
    """Sample new images from a run of an image generator.

    Args:
        run: folder of the run.
        out: folder of the PNG files; made if missing, files of the same names are replaced.
        settings: settings of the sampling; if None, the defaults of `GenerateSettings`.
        on_step: function called with each step.

    Returns:
        Paths of the files.

    Raises:
        ConfigError: a class or text for a model that was trained without.
        CheckpointError: the folder contains no such run.
        OutputError: ``out`` cannot be written.
    """
    how = settings or GenerateSettings()
    export, out = Path(run) / "export", Path(out)
    if not (export / "generator/config.json").is_file():
        raise CheckpointError(
            f"{export}: expected generator/ and autoencoder/; train a recipe `generator-...` and give its run's folder"
        )
    check_folder(out)

    import torch
    from PIL import Image

    from omote.engine.weights import load_pretrained
    from omote.images.first_stage import decoded, load_image_autoencoder
    from omote.images.generator import ImageGenerator, Tokenizer
    from omote.images.train_generator import TOKENIZER

    generator = load_pretrained(ImageGenerator, export / "generator").eval()
    classes = list(generator.config.classes)
    if how.label and how.label not in classes:
        raise ConfigError(f"label: unknown class {how.label!r}{nearest(how.label, classes)}")
    if how.text and generator.config.condition != "text":
        raise ConfigError(f"text: {run} was trained with condition={generator.config.condition}, not with captions")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    autoencoder = load_image_autoencoder(export / "autoencoder").eval().to(device)
    generator = generator.to(device)
    file = export / "generator" / TOKENIZER
    tokens = Tokenizer(file if file.is_file() else None)([how.text], generator.config.max_tokens).to(device)
    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for first in range(0, how.count, BATCH):
        which = range(first, min(first + BATCH, how.count))
        seeds = [how.seed + i for i in which]
        wanted = [classes.index(how.label) if how.label else seed % max(len(classes), 1) for seed in seeds]
        with torch.no_grad():
            z = generator.draw(
                torch.tensor(wanted, device=device),
                tokens.expand(len(which), -1),
                seeds,
                steps=how.steps,
                sampler=how.sampler,
                guidance_scale=how.guidance_scale,
            )
            pixels = ((decoded(autoencoder, z) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        for i, image in zip(which, pixels.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
            made.append(out / f"{i:06d}.png")
            with atomic_path(made[-1]) as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
        if on_step is not None:
            on_step(Step(stage="generate", done=len(made), total=how.count))
    return made
