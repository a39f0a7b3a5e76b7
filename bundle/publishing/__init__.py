"""Verify, pack, export and describe the bundle."""
