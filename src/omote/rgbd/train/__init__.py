"""Training of candidate 3's networks, with one module per stage."""
