"""Weights on a command line: a file, or the name of published weights."""

from __future__ import annotations

import pytest

from bundle.labelling.label import label
from bundle.publishing.pack import pack
from bundle.running.errors import UsageError
from bundle.running.weights import named_weights
from bundle.running.workflows import segment, train


def test_names_become_files_and_paths_stay() -> None:
    named = named_weights("--weights", "nuclei")
    assert named is not None
    assert named.endswith("nuclei.pt")
    assert named_weights("--weights", "output/cells/model.pt") == "output/cells/model.pt"
    assert named_weights("--weights", 2024.5) == "2024.5"  # a file whose name is a number
    assert named_weights("--weights", None) is None


@pytest.mark.parametrize("given, message", [("nucleii", "'nucleii' is no file and no name"), (True, "needs a value")])
def test_every_command_refuses_other_names_and_missing_values(given, message, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("bundle.labelling.label.environment_python", lambda: "python")  # of MONAI Label, not installed
    calls = [
        lambda: segment(str(tmp_path), weights=given),
        lambda: train(str(tmp_path), **{"from": given}),
        lambda: pack(str(tmp_path), weights=given),
        lambda: label(str(tmp_path), weights=given),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=f"^--(weights|from) {message}"):
            call()
