"""Names of completions, in a module without the networks, which take seconds to import."""

from __future__ import annotations

from typing import Literal

CompletionName = Literal["auto", "none", "restoration", "volume", "part-graph", "sparse", "diffusion"]
