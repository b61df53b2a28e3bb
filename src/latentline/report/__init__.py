"""A run as one HTML file to send (``make report``), and as a model card (``make model-card``); no stage imports it."""
