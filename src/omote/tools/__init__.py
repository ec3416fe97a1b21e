"""Training of the shipped weights outside the diffusion model, each with a command."""
