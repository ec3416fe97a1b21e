"""Candidates 1 and 2: a face as registered views, diffusion of the views, and a mesh in correspondence from the views."""
