"""Stable Diffusion 1.x and 2.x: checkpoints, sampling, and what fine-tuning adds to a stock U-Net."""
