"""Loss networks and building blocks that are shared by several packages."""
