"""The rules of `python -m bundle verify`, by the name in its output.

A rule is a function that yields the errors of a bundle. `verify` prints the first line of a rule's docstring if the
rule holds. The line therefore states what the rule requires.
"""

from __future__ import annotations

from bundle.publishing.rules import card, configs, files, metadata, settings, workflows

RULES = {
    "files": files.required_files,
    "file sizes": files.file_sizes,
    "licence": files.licence,
    "data licence": files.data_licence,
    "metadata schema": metadata.schema,
    "versions": metadata.versions,
    "packages": metadata.packages,
    "unused keys": configs.unused_keys,
    "references": configs.dangling_references,
    "imports": configs.imports,
    "overlays": configs.overlays,
    "components": configs.components,
    "settings": settings.table,
    "logging": configs.logging,
    "paths": configs.absolute_paths,
    "agreement": workflows.agreement,
    "properties": workflows.properties,
    "network in and out": workflows.network_in_and_out,
    "card sections": card.card_sections,
    "results": card.results,
}
