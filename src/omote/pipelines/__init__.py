"""The candidate pipelines: small compositions of shared parts."""
