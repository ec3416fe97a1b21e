"""Turn a run's exports into the weights that ship: half precision, shards under 15 MB.

The command stands in the model card, `src/omote/weights/README.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from omote.completion.part_graph import PartGraphCompletion
from omote.completion.sparse import SparseCompletion
from omote.completion.volume import VolumeCompletion
from omote.engine.weights import load_pretrained
from omote.multiview.denoiser import ViewUNet
from omote.multiview.first_stage import ViewAutoencoder
from omote.multiview.latents_to_3d import LatentsToMesh
from omote.multiview.to_3d import ViewsToMesh
from omote.multiview.train_denoiser import UNITS
from omote.multiview.voxels import VoxelEncoder
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
    "completion/part-graph": PartGraphCompletion,
    "rivals/completion/sparse": SparseCompletion,
    "rivals/completion/volume": VolumeCompletion,
    "rivals/completion/diffusion/denoiser": ViewUNet,
    "rivals/completion/diffusion/first_stage": ViewAutoencoder,
    "rivals/flow/editor": LatentEditor,
    "rivals/regression/editor": LatentEditor,
    "rivals/pixel_diffusion/autoencoder": IdentityStage,
    "rivals/pixel_diffusion/editor": LatentEditor,
    "rivals/candidate1/denoiser": ViewUNet,
    "rivals/candidate1/first_stage": ViewAutoencoder,
    "rivals/candidate1/to_3d": ViewsToMesh,
    "rivals/candidate2/denoiser": ViewUNet,
    "rivals/candidate2/first_stage": ViewAutoencoder,
    "rivals/candidate2/encoder": VoxelEncoder,
    "rivals/candidate2/to_3d": LatentsToMesh,
    "rivals/candidate3/autoencoder": RgbdAutoencoder,
    "rivals/candidate3/editor": LatentEditor,
    "rivals/candidate3/text": TextConditioner,
}
# In half precision, positions of 100 mm would be off by .03 mm.
IN_FULL = ("basis",)


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
        for part in IN_FULL:
            if hasattr(model, part):
                exact = getattr(load_pretrained(kind, source), part).state_dict()
                getattr(model, part).float().load_state_dict(exact)
        folder = options.out / name
        model.save_pretrained(folder, max_shard_size=SHARD)
        # diffusers notes the folder that a model was loaded from, which exists on this machine alone.
        config = json.loads((folder / "config.json").read_text())
        config.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        if (source / UNITS).is_file():
            shutil.copy(source / UNITS, folder / UNITS)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)


if __name__ == "__main__":
    main()
