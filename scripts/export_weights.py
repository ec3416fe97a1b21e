"""Turn a run's exports into the weights that ship: half precision, shards under 15 MB.

The command stands in the model card, `src/omote/weights/README.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from omote.engine.weights import load_pretrained
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.text.conditioner import TextConditioner
from omote.rgbd.expression_prior import ExpressionPrior
from omote.rgbd.identity_stage import IdentityStage
from omote.rgbd.latent_editor import LatentEditor

SHARD = "9MB"
# Where a network ships; its option is that folder's name with dashes.
PARTS = {
    "autoencoder": RgbdAutoencoder,
    "editor": LatentEditor,
    "text": TextConditioner,
    "expressions": ExpressionPrior,
    "rivals/flow/editor": LatentEditor,
    "rivals/regression/editor": LatentEditor,
    "rivals/pixel_diffusion/autoencoder": IdentityStage,
    "rivals/pixel_diffusion/editor": LatentEditor,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in PARTS:
        parser.add_argument(
            f"--{name.replace('/', '-')}",
            dest=name,
            type=Path,
            metavar="DIR",
            help="exported; what ships stays without",
        )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name, kind in PARTS.items():
        if (source := vars(options)[name]) is None:
            continue
        model = load_pretrained(kind, source).half()
        folder = options.out / name
        model.save_pretrained(folder, max_shard_size=SHARD)
        # diffusers notes the folder that a model was loaded from, which exists on this machine alone.
        config = json.loads((folder / "config.json").read_text())
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)


if __name__ == "__main__":
    main()
