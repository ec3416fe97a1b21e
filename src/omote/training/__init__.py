"""Training of every network, one loop for all."""
