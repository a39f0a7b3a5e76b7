"""Verify, pack and export the bundle."""
