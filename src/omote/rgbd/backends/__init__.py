"""What runs the networks of candidate 3."""
