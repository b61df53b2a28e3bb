"""Sources, one module per family of data sets. Heavy libraries are imported inside functions."""
