"""`run.json` says what ran, on which files, with which settings, and how long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator

from scripts.handlers import RunFile
from scripts.handlers.run_file import typed_command


def run(handler: RunFile, fails: bool = False) -> None:
    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if fails:
                raise ValueError("no")
            return x

    loader = DataLoader([{"image": torch.zeros(1, 4, 4)}], batch_size=1)
    evaluator = SupervisedEvaluator("cpu", val_data_loader=loader, network=Network(), val_handlers=[handler])
    if fails:
        with pytest.raises(ValueError, match="no"):
            evaluator.run()
    else:
        evaluator.run()


def test_the_record_names_the_files_below_the_data_and_the_time(tmp_path: Path) -> None:
    images = [str(tmp_path / "data" / "a.png"), [str(tmp_path / "data" / "b_0.png"), "/elsewhere/b_1.png"]]
    (tmp_path / "data").mkdir()
    items = [{"image": image, "other": 3} for image in images]
    run(RunFile(tmp_path, "segmentation", tmp_path / "data", items, "model.pt"))
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["items"] == [{"image": "a.png"}, {"image": ["b_0.png", "/elsewhere/b_1.png"]}]
    assert record["data"] == str(tmp_path / "data")
    assert record["weights"] == str(Path("model.pt").absolute())
    assert record["seconds"] >= 0
    assert record["versions"]["torch"] == torch.__version__
    assert record["started"].endswith("+00:00")


def test_a_run_that_fails_before_its_first_result_leaves_an_earlier_record(tmp_path: Path) -> None:
    run(RunFile(tmp_path, "evaluation", tmp_path))
    before = (tmp_path / "run.json").read_bytes()
    run(RunFile(tmp_path, "segmentation", tmp_path), fails=True)
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_file_of_another_program_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run.json").write_text('{"mine": 1}', encoding="utf-8")
    run(RunFile(tmp_path, "evaluation", tmp_path))
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == '{"mine": 1}'
    assert "run.json" in caplog.text


def test_a_run_goes_on_if_its_record_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    run(RunFile(tmp_path / "file" / "folder", "training", tmp_path))
    assert "run.json was not written" in caplog.text


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["/usr/bin/python3", "-m", "bundle", "train", "a b"], "python3 -m bundle train 'a b'"),
        (["/venv/bin/python", "/venv/bin/original-unet", "train", "x"], "original-unet train x"),
        (["python", "-m", "x", "--tracking_uri=http://me:word@host"], "python -m x --tracking_uri=..."),
        (["python", "-m", "x", "--tracking_uri", "http://me:word@host", "-y"], "python -m x --tracking_uri ... -y"),
    ],
)
def test_the_command_is_as_typed_without_addresses_of_servers(words: list[str], typed: str) -> None:
    assert typed_command(words) == typed
