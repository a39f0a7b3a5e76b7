"""Fetch public data sets and make synthetic data sets."""
