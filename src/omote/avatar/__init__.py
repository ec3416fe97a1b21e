"""From scan to avatar: pipelines, texture, export."""
