"""Networks. They know nothing of schedules, losses, files or devices."""
