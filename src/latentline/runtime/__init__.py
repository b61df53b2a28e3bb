"""Device, process, checkpoint and resume files: the only package that knows where it runs."""
