"""Commands for people who work in this repository."""
