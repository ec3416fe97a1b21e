"""Published networks that give features for metrics, re-written in torch with the published names of their weights."""
