"""``omote.pack`` and ``omote.generate``: folders of ordinary images, and new images from a model of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omote.config import nearest
from omote.errors import CheckpointError, ConfigError
from omote.files import atomic_path, check_folder
from omote.progress import Step

if TYPE_CHECKING:
    from omote.diffusion.settings import SamplerName

BATCH = 8


def pack(folder: Path | str, out: Path | str, *, size: int = 256, on_step: Callable[[Step], None] | None = None) -> int:
    """Pack a folder of images for training: every file is opened, checked, and resized once.

    Args:
        folder: of jpg, png or webp images, or of subfolders of them, one a class; captions in ``name.txt`` or
            ``metadata.jsonl``.
        out: a new folder.
        size: pixels of the shorter side.
        on_step: called with progress.

    Returns:
        The number of images.

    Raises:
        ConfigError: a size out of range.
        DatasetError: no images, or one that cannot be read; nothing is left behind.
        OutputError: ``out`` cannot be written, or holds something else.
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


def generate(
    run: Path | str,
    out: Path | str,
    *,
    count: int = 16,
    steps: int = 50,
    sampler: SamplerName = "ddim",
    guidance_scale: float = 1.0,
    label: str | None = None,
    text: str = "",
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> list[Path]:
    """Draw new images from a run of an image generator.

    Args:
        run: its folder.
        out: folder of the PNG files; made if missing, files of the same names are replaced.
        count: of images; image i is a function of the run and ``seed`` + i.
        steps: of the sampler.
        sampler: by name.
        guidance_scale: towards the class or text; 1 means none.
        label: the class's name; every class in turn if None.
        text: what to show, where the model was told captions.
        seed: of the first image's noise.
        on_step: called with progress.

    Returns:
        The files.

    Raises:
        ConfigError: a number out of range, or a class or text that the model was not trained with.
        CheckpointError: the folder holds no such run.
        OutputError: ``out`` cannot be written.
    """
    for name, value, low, high in (
        ("count", count, 1, 10_000_000), ("steps", steps, 1, 1000), ("guidance-scale", guidance_scale, 0, 100),
        ("seed", seed, 0, 2**62),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ConfigError(f"{name}: expected {low} to {high}, got {value}")
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
    if label is not None and label not in classes:
        raise ConfigError(f"label: unknown class {label!r}{nearest(label, classes)}")
    if text and generator.config.condition != "text":
        raise ConfigError(f"text: {run} was trained with condition={generator.config.condition}, not with captions")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    autoencoder = load_image_autoencoder(export / "autoencoder").eval().to(device)
    generator = generator.to(device)
    file = export / "generator" / TOKENIZER
    tokens = Tokenizer(file if file.is_file() else None)([text], generator.config.max_tokens).to(device)
    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for first in range(0, count, BATCH):
        which = range(first, min(first + BATCH, count))
        wanted = [classes.index(label) if label is not None else (seed + i) % max(len(classes), 1) for i in which]
        with torch.no_grad():
            z = generator.draw(
                torch.tensor(wanted, device=device),
                tokens.expand(len(which), -1),
                [seed + i for i in which],
                steps=steps,
                sampler=sampler,
                guidance_scale=guidance_scale,
            )
            pixels = ((decoded(autoencoder, z) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        for i, image in zip(which, pixels.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
            made.append(out / f"{i:06d}.png")
            with atomic_path(made[-1]) as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
        if on_step is not None:
            on_step(Step(stage="generate", done=len(made), total=count))
    return made
