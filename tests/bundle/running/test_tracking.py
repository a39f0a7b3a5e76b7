"""What `--tracking` may be."""

from __future__ import annotations

import json

import pytest

from bundle.errors import UsageError
from bundle.running.tracking import tracking_keys


def test_without_tracking_there_are_no_keys():
    assert tracking_keys(None) == {}


def test_the_keys_of_a_file_are_known_and_its_handlers_are_none(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"handlers_id": {"trainer": {}}, "configs": {"trainer": {"_target_": "X"}, "where": 1}}))
    assert tracking_keys(str(path)) == {"where": 1}


def test_mlflow_can_be_told_where_and_under_which_name():
    pytest.importorskip("mlflow", reason="mlflow is not installed (pip install '.[tracking]')")
    assert {"tracking_uri", "experiment_name", "run_name"} <= set(tracking_keys("mlflow"))


@pytest.mark.parametrize(
    "given, message",
    [("mflow", "did you mean 'mlflow'"), ("wandb", "give mlflow, or a file"), ({"configs": {}}, "expected settings")],
)
def test_what_is_no_tracker_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        tracking_keys(given)
