"""Images: sources (fetch, verify, read), the prepared store, seeded batches. No other package of latentline but ``common``."""
