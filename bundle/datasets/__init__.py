"""Fetch public data sets and make synthetic ones."""
