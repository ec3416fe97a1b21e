"""Work divided into shards, which processes of this machine, an array job or a Ray cluster make; see `omote.shards.mapping`."""
