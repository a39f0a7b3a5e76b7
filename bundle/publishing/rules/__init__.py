"""What must hold before the bundle is published, a small rule each."""

from __future__ import annotations

from bundle.publishing.rules import agreement, card, configs, files, licences, metadata, safety, workflows

RULES = (
    files.required_files,
    files.file_sizes,
    licences.licence,
    licences.data_licence,
    metadata.schema,
    metadata.versions,
    metadata.packages,
    configs.unused_keys,
    configs.dangling_references,
    configs.imports,
    configs.overlays,
    configs.components,
    safety.logging,
    safety.absolute_paths,
    agreement.agreement,
    workflows.properties,
    workflows.network_in_and_out,
    card.card_sections,
    card.results,
)
