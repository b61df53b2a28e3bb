"""Arrays -> figure files. Equal arrays give equal bytes."""
