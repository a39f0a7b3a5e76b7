"""The comparison of plans: measured images stay out of the plan, and figures are means of the same seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.planning import HAND_MADE, OCT, PLANNED, SETS, Length, planned, record, table, without_measured
from bundle.datasets.sample import sample
from scripts.data.datalist import find_pairs


def runs(*values: float) -> list[dict]:
    return [{"of": {"seed": seed}, "steps": 100, "views": {"1": {"SEG": value}}} for seed, value in enumerate(values)]


def test_the_table_has_the_mean_of_the_seeds_of_both_ways() -> None:
    found = {"hela": {HAND_MADE: runs(0.4, 0.6), PLANNED: runs(0.7, 0.8)}}
    assert table(found, Length(minutes=15)).splitlines()[-1] == "| hela | SEG | .500 | .750 | 2 |"
    kept = record(found, {"hela": "# a\nsigma: 5  # large\nplan: {}\n"}, Length(epochs=3))
    assert kept["length"] == "300 steps"
    assert kept["sets"]["hela"]["plan"] == ["sigma: 5  # large"]
    assert [run["figures"]["SEG"] for run in kept["sets"]["hela"]["runs"][PLANNED]] == [0.7, 0.8]


def test_measured_subjects_of_oct_are_those_of_no_training_image() -> None:
    names = [f"s{subject:02}_{scan:02}" for subject in range(1, 9) for scan in range(11)]
    parts = [{names[number][:3] for number in part} for part in (OCT.training, OCT.choosing, OCT.measured)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert set.union(*parts) == {name[:3] for name in names}


@pytest.mark.parametrize("name", ["em", "nuclei"])
def test_a_plan_is_made_without_the_measured_images(name: str, tmp_path: Path) -> None:
    folder = tmp_path / SETS[name].folder
    sample(str(folder), size=96, train=10, test=1)
    plan = planned(name, folder, tmp_path / "out")
    held = json.loads((tmp_path / "out" / "measured.json").read_text(encoding="utf-8"))["validation"]
    assert len(plan.case.listing.items) == 10 - len(held)
    assert len(held) == len(find_pairs(folder)) - len(
        without_measured(SETS[name], find_pairs(folder), tmp_path / "out" / "measured.json")
    )
    file = tmp_path / "out" / "plan.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("sigma", "# sigma"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"plan\.yaml is another plan"):
        planned(name, folder, tmp_path / "out")
