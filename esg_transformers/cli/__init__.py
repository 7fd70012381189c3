"""The command `esg-transformers`."""
