"""Images on disk (the prepared ones and the samples), decoding of image files, seeded batches."""
