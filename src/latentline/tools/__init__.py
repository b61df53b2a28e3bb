"""Tools for people who work on this repository; no stage imports them."""
