"""Run a workflow strictly: overrides, failures and messages."""
