"""Stage ``evaluate``: every score that needs the feature extractor."""
