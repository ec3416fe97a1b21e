"""The latent diffusion model on RGB-D images."""
