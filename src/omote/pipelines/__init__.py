"""The candidate pipelines: small compositions of the same parts."""
