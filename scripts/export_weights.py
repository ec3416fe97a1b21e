"""Turn a run's exports into the weights that ship: half precision, shards under 15 MB.

The command stands in the model card, `src/omote/weights/README.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from omote.ldm.autoencoder import RgbdAutoencoder
from omote.ldm.denoiser import LatentEditor
from omote.training.warm_start import load_pretrained

SHARD = "9MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--editor", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for kind, name in ((RgbdAutoencoder, "autoencoder"), (LatentEditor, "editor")):
        model = load_pretrained(kind, getattr(options, name)).half()
        folder = options.out / name
        model.save_pretrained(folder, max_shard_size=SHARD)
        # diffusers notes the folder that a model was loaded from: nobody else has it.
        config = json.loads((folder / "config.json").read_text())
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
