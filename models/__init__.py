"""Everything that runs a network: encoders (text → vectors) and cross-encoders (pairs of texts → scores)."""
