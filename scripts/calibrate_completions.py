"""Calibrate the standard deviation of shipped completions anew, without training.

Every export of their recipes does the same, on the same partial scans.

    python scripts/calibrate_completions.py --ict PATH FOLDER...

A folder holds a completion's weights, such as ``src/omote/weights/completion/part-graph``; they are changed in place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file

from omote.completion.diffusion import DiffusionCompletion
from omote.completion.partial_source import held_out_scans
from omote.completion.train import calibrate, completion_batch
from omote.completion.train_diffusion import calibrated
from omote.completion.trained import load_completion
from omote.head.shipped import population_heads
from omote.multiview.train_denoiser import UNITS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="weights of a completion; changed in place"
    )
    parser.add_argument("--ict", type=Path)
    parser.add_argument(
        "--scans", type=int, default=96, help="number of partial scans of persons of the validation split"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    heads = population_heads(options.ict)
    known = held_out_scans(heads, options.scans)
    for folder in options.folders:
        completion = load_completion(folder, heads[0])
        if isinstance(completion, DiffusionCompletion):
            path = folder / "denoiser" / UNITS
            scale = calibrated(completion, known)
        else:
            path = folder / SAFETENSORS_WEIGHTS_NAME
            calibrate(completion.network, [completion_batch([scan], heads[0]) for scan in known])
            scale = completion.network.sigma_scale
        saved = load_file(path)
        before = saved["sigma_scale"]
        save_file({**saved, "sigma_scale": scale.to(before.dtype)}, path, metadata={"format": "pt"})
        print(f"{folder.name}: {before.tolist()} -> {scale.tolist()}", flush=True)


if __name__ == "__main__":
    main()
