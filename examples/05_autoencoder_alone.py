"""The RGB-D autoencoder alone: an image to a latent and back.

python examples/05_autoencoder_alone.py
"""

import torch

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.head.shipped import population_heads
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import pack_images, unpack_images
from omote.rgbd.weights import SHIPPED_WEIGHTS


@torch.no_grad()
def main() -> float:
    """Print the latent's shape and return the median depth error of the reconstruction in mm."""
    heads = population_heads(None)
    person = draw_person(PopulationConfig(split="test", num_images=1), 0, heads)
    image, *_ = next(iter(render_person(person, heads)))
    autoencoder = RgbdAutoencoder.from_pretrained(SHIPPED_WEIGHTS / "autoencoder", low_cpu_mem_usage=False).float()
    x = pack_images([image])
    z = autoencoder.encode(x).mode()
    decoded = unpack_images(autoencoder.decode(z, source=x), [image.camera])[0]
    both = image.mask & decoded.mask
    error_mm = float(torch.tensor(decoded.depth_mm - image.depth_mm)[torch.tensor(both)].abs().median())
    print(f"image {tuple(x.shape[1:])}, latent {tuple(z.shape[1:])}, median depth error {error_mm:.2f} mm")
    return error_mm


if __name__ == "__main__":
    main()
