"""The start of workflows is measured until the network is called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import start
from bundle.datasets.sample import sample

TINY = (2, 2, 2, 2, 2)


@pytest.mark.slow
def test_both_workflows_reach_the_network_and_the_import_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "IMPORT", start.IMPORT.replace("torch, monai, ", ""))  # which take seconds
    sample(str(tmp_path / "sample"), size=96, train=2, test=0)
    data = tmp_path / "sample" / "train"
    training = start.training_seconds(data, TINY, input_size=188, num_workers=0)
    assert min(training, start.prediction_seconds(data / "images", TINY), start.import_seconds()) > 0


def test_a_command_that_fails_before_the_network_gives_its_output() -> None:
    with pytest.raises(RuntimeError, match=r"network:\n(.|\n)*nowhere"):
        start._seconds_until_noted([sys.executable, "-c", "raise SystemExit('nowhere')"])
