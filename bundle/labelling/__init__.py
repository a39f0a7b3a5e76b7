"""Serve the bundle with MONAI Label."""
