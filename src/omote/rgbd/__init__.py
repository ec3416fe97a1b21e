"""Candidate 3's model: latent diffusion on RGB-D images, with its conditions, backends and training."""
