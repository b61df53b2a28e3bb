"""Stage ``sample``: draw images."""
