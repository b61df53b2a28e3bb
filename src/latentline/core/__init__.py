"""What every package uses: errors, files, arrays, labels, seeds, params and the runner of stages."""
