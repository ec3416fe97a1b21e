"""Ordinary images: first stages and generators of any folder of pictures."""
