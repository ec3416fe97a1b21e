"""Published networks whose features metrics are made of, re-written in torch with the published names of their weights."""
