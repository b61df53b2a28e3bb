"""One module per DVC stage: knobs -> build -> run -> files. The only package that joins all others."""
