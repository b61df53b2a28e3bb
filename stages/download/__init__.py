"""Stage ``download``: fetch, verify, split, prepare and store the images."""
