"""Losses and loops; engine.py is the one module that knows accelerate."""
