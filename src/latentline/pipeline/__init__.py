"""The old place of ``latentline.load``; gone with version 0.3."""
