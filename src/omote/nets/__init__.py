"""Loss networks and blocks that no idea owns."""
