"""One module per command: an ``Options`` dataclass, which is the interface, and ``run``."""
