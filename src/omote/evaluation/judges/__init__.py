"""Expression and identity judges: small published networks that no model here is trained with, re-written in torch."""
