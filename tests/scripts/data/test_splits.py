"""Each item trains or validates. The same rule and seed, or the written file, give the same split."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from scripts.data.splits import save_split, series_of, split_datalist

ITEMS = [{"image": f"/data/images/{k:02}.png", "label": f"/data/labels/{k:02}.png"} for k in range(25)]
STACK = [{"image": f"/data/train-volume.tif#page={k}", "label": f"/data/train-labels.tif#page={k}"} for k in range(30)]


@pytest.mark.parametrize("how", ["random", "last"])
@pytest.mark.parametrize(
    "number, fraction, held", [(25, 0.2, 5), (2, 0.2, 1), (2, 0.99, 1), (10, 0.01, 1), (10, 0.99, 9)]
)
def test_both_parts_together_are_all_items_and_neither_is_empty(how: str, number: int, fraction: float, held: int):
    split = split_datalist(ITEMS[:number], fraction, how)
    assert len(split["validation"]) == held
    assert sorted(item["image"] for part in split.values() for item in part) == [
        item["image"] for item in ITEMS[:number]
    ]


def test_last_is_the_block_at_the_end():
    assert split_datalist(ITEMS, 0.2, "last")["validation"] == ITEMS[20:]


def test_random_depends_on_the_seed_alone_and_never_changes():
    assert split_datalist(ITEMS, seed=1) == split_datalist(ITEMS, seed=1) != split_datalist(ITEMS, seed=2)
    validation = [item["image"][-6:-4] for item in split_datalist(ITEMS, seed=0)["validation"]]
    assert validation == [
        "00",
        "03",
        "12",
        "15",
        "21",
    ]  # a recorded split: numpy never changes the numbers of RandomState


@pytest.mark.parametrize("items", [ITEMS, STACK], ids=["files", "pages"])
@pytest.mark.parametrize("how", ["random", "last"])
def test_a_written_split_can_be_fed_back(how: str, items: list[dict[str, str]], tmp_path: Path):
    split = split_datalist(items, 0.3, how, seed=3, output=tmp_path / "run" / "split.json")
    assert split_datalist(items, split_file=tmp_path / "run" / "split.json") == split
    content = json.loads((tmp_path / "run" / "split.json").read_text())
    assert content["training"][0] in ("00.png", "01.png", "train-volume.tif#page=0", "train-volume.tif#page=1")
    assert content["rule"] == {"how": how, "val_fraction": 0.3, **({"seed": 3} if how == "random" else {})}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["split.json"]


def test_a_split_may_move_with_its_data(tmp_path: Path):
    split_datalist(ITEMS, output=tmp_path / "split.json")
    elsewhere = [{key: path.replace("/data", "/mnt/other") for key, path in item.items()} for item in ITEMS]
    moved = split_datalist(elsewhere, split_file=tmp_path / "split.json")
    assert [i["image"][-6:] for i in moved["validation"]] == [
        i["image"][-6:] for i in split_datalist(ITEMS)["validation"]
    ]


def test_equal_names_in_different_folders_stay_apart(tmp_path: Path):
    items = [{"image": f"/data/{subject}/{k}.png", "label": "x"} for subject in "ab" for k in range(3)]
    split = split_datalist(items, 0.5, output=tmp_path / "split.json")
    assert split_datalist(items, split_file=tmp_path / "split.json") == split
    content = json.loads((tmp_path / "split.json").read_text())
    assert "a/0.png" in content["training"] + content["validation"]


def test_a_file_written_by_hand_may_leave_out_endings_and_items(tmp_path: Path):
    (tmp_path / "split.json").write_text('{"training": ["00", "02.png"], "validation": ["20"]}')
    split = split_datalist(ITEMS, split_file=tmp_path / "split.json")
    assert split == {"training": [ITEMS[0], ITEMS[2]], "validation": [ITEMS[20]]}
    (tmp_path / "split.json").write_text(
        '{"training": ["train-volume#page=3"], "validation": ["train-volume.tif#page=9"]}'
    )
    assert split_datalist(STACK, split_file=tmp_path / "split.json") == {
        "training": [STACK[3]],
        "validation": [STACK[9]],
    }


def write_often(path: str) -> None:
    for _ in range(20):
        save_split(path, {"training": ITEMS[:20], "validation": ITEMS[20:]})
        assert len(json.loads(Path(path).read_text())["training"]) == 20


def test_several_processes_may_write_the_same_split(tmp_path: Path):
    path = str(tmp_path / "split.json")
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(write_often, [path] * 3))
    assert [file.name for file in tmp_path.iterdir()] == ["split.json"]


@pytest.mark.parametrize("number", [0, 1])
def test_fewer_than_two_items_cannot_be_split(number: int):
    with pytest.raises(ValueError, match=rf"{number} image.* at least 2"):
        split_datalist(ITEMS[:number])


@pytest.mark.parametrize(
    "content, message",
    [
        ("[", "is not a split"),
        ('{"training": []}', "is not a split"),
        ('{"training": 3, "validation": []}', "is not a split"),
        ('{"training": ["00"], "validation": ["x", "y"]}', r"names 2 \(x, y\) images .* names like '00.png'"),
        (
            '{"training": ["00", "01"], "validation": ["01.png"]}',
            r"names 1 \(01.png\) images for both parts",
        ),
        ('{"training": ["00"], "validation": []}', "names no images for validation"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused(content: str, message: str, tmp_path: Path):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ValueError, match=rf"split_file .*split\.json {message}"):
        split_datalist(ITEMS, split_file=tmp_path / "split.json")


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"how.*'random'.*'first'"):
        split_datalist(ITEMS, how="first")
    for fraction in (0, 1, -1, 2.0):
        with pytest.raises(ValueError, match=f"val_fraction must lie between 0 and 1, got {fraction}"):
            split_datalist(ITEMS, fraction)
    with pytest.raises(FileNotFoundError, match=r"split_file nowhere\.json does not exist"):
        split_datalist(ITEMS, split_file="nowhere.json")


def test_all_puts_every_item_in_both_lists_even_a_single_one():
    items = [{"image": "a.png", "label": "b.png"}]
    split = split_datalist(items, how="all")
    assert split == {"training": items, "validation": items}


def test_blocks_of_a_cross_validation_cover_all_slices_once():
    items = [{"image": f"/d/images/{k:02d}.png", "label": f"/d/labels/{k:02d}.png"} for k in range(25)]
    splits = [split_datalist(items, how="block", fold=fold) for fold in range(5)]
    held = [[items.index(item) for item in split["validation"]] for split in splits]
    assert held == [list(range(first, first + 5)) for first in range(0, 25, 5)]
    assert all(len(split["training"]) == 20 for split in splits)
    assert splits[4] == split_datalist(items, how="last")
    with pytest.raises(ValueError, match=r"fold must be from 0 to 4 \(val_fraction 0.2\), got 5"):
        split_datalist(items, how="block", fold=5)


def test_a_written_split_of_all_items_can_be_fed_back_and_written_again(tmp_path: Path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    for items in (ITEMS[:4], ITEMS[:1], STACK):
        split = split_datalist(items, how="all", output=first)
        assert split_datalist(items, split_file=first, output=second) == split
        assert split_datalist(items, split_file=second) == split == {"training": items, "validation": items}
    assert json.loads(second.read_text())["rule"] == {"how": "all", "split_file": str(first)}


@pytest.mark.parametrize("rule", ['"all"', "null", '{"how": "random"}', "[]"])
def test_only_the_rule_all_lets_an_image_train_and_validate(rule: str, tmp_path: Path):
    (tmp_path / "split.json").write_text(f'{{"training": ["00", "01"], "validation": ["01"], "rule": {rule}}}')
    with pytest.raises(ValueError, match="for both parts: keep each in one list"):
        split_datalist(ITEMS, split_file=tmp_path / "split.json")
    (tmp_path / "split.json").write_text(f'{{"training": ["00"], "validation": ["01"], "rule": {rule}}}')
    assert split_datalist(ITEMS, split_file=tmp_path / "split.json")["validation"] == [ITEMS[1]]


def test_a_list_of_images_is_never_replaced_by_a_split(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    for content in ('{"training": [{"image": "a.png", "label": "b.png"}]}', "my notes"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"split\.json is no split and would be replaced"):
            split_datalist([{"image": f"{k}.png"} for k in range(4)], output=path)
        assert path.read_text() == content


def test_the_split_file_itself_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    items = [{"image": str(tmp_path / f"{k}.png")} for k in range(4)]
    split_datalist(items, output=path)
    content = path.read_text().replace('"random"', '"random",\n    "note": "mine"')
    path.write_text(content)
    split_datalist(items, split_file=path, output=path)
    assert path.read_text() == content


def test_images_that_the_data_set_lists_for_validation_validate(tmp_path):
    items = [{"image": "a.png"}, {"image": "b.png", "part": "validation"}, {"image": "c.png"}]
    for how in ("random", "last", "block"):
        split = split_datalist(items, how=how, output=tmp_path / "split.json")
        assert split == {"training": [items[0], items[2]], "validation": [items[1]]}
    assert split_datalist(items, split_file=tmp_path / "split.json") == split
    assert split_datalist(items, how="all")["training"] == items
    with pytest.raises(ValueError, match="training"):
        split_datalist(items[1:2] * 2)


def test_whole_series_validate_and_come_as_near_to_the_share_as_they_can() -> None:
    items = [{"image": f"d/p{patient}_{k}.png"} for patient, count in enumerate((3, 3, 3, 3)) for k in range(count)]
    for seed in range(5):
        split = split_datalist(items, 0.3, how="series", seed=seed)
        series = [{series_of(item) for item in split[part]} for part in ("training", "validation")]
        assert not series[0] & series[1]
        assert len(split["validation"]) == 3
    stacks = [{"image": f"{name}.tif#page={page}"} for name in ("a", "b") for page in range(4)]
    assert {series_of(item) for item in split_datalist(stacks, how="series")["validation"]} in ({"a.tif"}, {"b.tif"})


def test_a_single_series_is_refused_with_the_rule_that_helps() -> None:
    with pytest.raises(ValueError, match=r"t\*.*split_rule last"):
        split_datalist([{"image": f"d/t{k:03}.tif"} for k in range(5)], how="series")
