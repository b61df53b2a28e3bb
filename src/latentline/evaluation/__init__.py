"""Arrays -> numbers. Knows no files, no models."""
