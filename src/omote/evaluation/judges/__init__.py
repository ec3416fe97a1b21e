"""Expression and identity judges: small published networks, used in no training here, re-written in torch."""
