"""The rules of `python -m bundle verify`. A function in one of these modules becomes a rule by the decorator `rule`."""

from __future__ import annotations

from bundle.publishing.rules import card, configs, files, metadata, workflows
from bundle.publishing.rules.basis import Rule

MODULES = (files, metadata, configs, workflows, card)
RULES = tuple(value for module in MODULES for value in vars(module).values() if isinstance(value, Rule))
