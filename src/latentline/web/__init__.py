"""A run as a page that draws and edits in the browser (``make export-web``); no stage imports it."""
