"""One module per family of data sets: files -> a ``Source``. Heavy libraries are imported inside functions."""
