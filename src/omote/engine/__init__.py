"""The training loop with its checkpoints, logs, prefetching and estimates. Only loop.py imports accelerate."""
