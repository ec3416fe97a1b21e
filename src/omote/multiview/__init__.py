"""Candidates 1 and 2: a face as several registered views, their diffusion, and views back to a mesh in correspondence."""
