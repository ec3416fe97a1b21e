"""Avatars of many scans: which scans, one shard of them, and what became of all (table and page); see `omote.api.batches`."""
