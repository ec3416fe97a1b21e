"""How shipped weights that are no network of the diffusion were made; each with a command."""
