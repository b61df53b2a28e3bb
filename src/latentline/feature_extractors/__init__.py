"""Feature extractors: the networks whose features measure distances between sets of images."""
