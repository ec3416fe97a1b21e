"""Training of candidate 3's networks, a stage a file."""
