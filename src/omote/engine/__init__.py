"""The training loop and what it needs: checkpoints, logs, prefetching, estimates. Only loop.py imports accelerate."""
