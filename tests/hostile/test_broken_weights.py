"""Weights with NaN, damaged weights and damaged states of a training: a message with file and reason."""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from tests.hostile.conftest import TINY
from tests.hostile.program import Outcome, Program
from tests.hostile.samples import write_images, write_pairs
from tests.hostile.weights import bright_cells, write_weights


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def with_value(value: float, name: str = "scores.weight") -> bytes:
    state = bright_cells()
    state[name][...] = value
    return saved(state)


RAN = Path(tempfile.mkdtemp()) / "ran"


class Code:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return eval, (f"open({str(RAN)!r}, 'w').close()",)


WHOLE = saved(bright_cells())
DAMAGED = {
    "nothing": b"",
    "cut": WHOLE[: len(WHOLE) // 2],
    "cut_at_the_end": WHOLE[:-100],
    "random": np.random.default_rng(0).bytes(10_000),
    "text": b"weights\n" * 100,
    "list": saved(list(bright_cells().values())),
    "tensor": saved(torch.zeros(3)),
    "number": saved(7),
    "empty_state": saved({}),
    "state_of_texts": saved({"contracting.0.0.weight": "text"}),
    "code": pickle.dumps(Code()),
    "code_in_a_state": saved({"model": Code()}),
    "other_zip": b"PK\x05\x06" + bytes(18),
    "directory_of_zip": WHOLE[-500:],
    "turned_bits": WHOLE[:3000] + bytes(value ^ 255 for value in WHOLE[3000:3100]) + WHOLE[3100:],
}
NOT_FINITE = {
    "nan": with_value(float("nan")),
    "nan_deep": with_value(float("nan"), "contracting.3.1.weight"),
    "infinite": with_value(float("inf"), "scores.bias"),
}


def told(outcome: Outcome, file: str) -> None:
    assert outcome.code == 1, str(outcome)
    assert file in outcome.last, str(outcome)
    assert "weights_only" not in outcome.text, str(outcome)
    assert "Traceback" not in outcome.text, str(outcome)


@pytest.mark.parametrize("kind", {**DAMAGED, **NOT_FINITE})
def test_damaged_weights_are_refused_by_name(program: Program, images, tmp_path, kind):
    path = tmp_path / "mine.pt"
    path.write_bytes({**DAMAGED, **NOT_FINITE}[kind])
    words = ("--weights", path, "--output", tmp_path / "out", "--network_def#features=[2,4,8,16,32]", "--device=cpu")
    outcome = program.run("bundle", "segment", images, *words)
    told(outcome, "mine.pt")
    assert not list((tmp_path / "out").rglob("*.tif"))
    assert not RAN.exists()


@pytest.mark.parametrize("kind", ["nothing", "cut", "list", "tensor", "nan", "code_in_a_state"])
def test_damaged_weights_to_start_from_are_refused_by_name(program: Program, pairs, tmp_path, kind):
    path = tmp_path / "mine.pt"
    path.write_bytes({**DAMAGED, **NOT_FINITE}[kind])
    out = tmp_path / "out"
    words = ("--finetune", path, "--output", out, *TINY, "--max_epochs=1", "--label_kind=instances")
    told(program.run("bundle", "train", pairs, *words), "mine.pt")
    assert not list(out.glob("*.pt"))


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize("kind", ["cut", "list", "nan"])
def test_damaged_weights_are_refused_by_other_commands(program: Program, pairs, tmp_path, command, kind):
    path = write_weights(tmp_path)
    path.write_bytes({**DAMAGED, **NOT_FINITE}[kind])
    (tmp_path / "model.json").unlink()
    features = "--network_def#features=[2,4,8,16,32]"
    if command == "evaluate":
        words = [
            pairs,
            "--weights",
            path,
            "--output",
            tmp_path / "out",
            "--device=cpu",
            "--label_kind=instances",
            features,
        ]
    else:
        words = ["torchscript", "--ckpt_path", path, "--output", tmp_path / "model.ts", features]
    told(program.run("bundle", command, *words), "model.pt")


def test_weights_of_another_width_are_refused_with_the_width(program: Program, images, tmp_path):
    path = write_weights(tmp_path, features=(4, 8, 16, 32, 64))
    (tmp_path / "model.json").unlink()
    words = ("--weights", path, "--output", tmp_path / "out", "--network_def#features=[2,4,8,16,32]", "--device=cpu")
    outcome = program.run("bundle", "segment", images, *words)
    told(outcome, "model.pt")
    assert "4, 8, 16, 32, 64" in outcome.last.replace("(", "").replace("[", ""), str(outcome)


@pytest.fixture(scope="module")
def finished(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and a finished training in `out`."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_pairs(folder / "data", count=2, size=64, binary=True)
    outcome = program.run("bundle", "train", data, "--output", folder / "out", *TINY, "--max_epochs=1")
    assert outcome.code == 0, str(outcome)
    return folder


def states(finished: Path) -> dict[str, bytes]:
    whole = (finished / "out" / "training_state.pt").read_bytes()
    state = torch.load(finished / "out" / "training_state.pt", weights_only=True)
    return {
        **{kind: DAMAGED[kind] for kind in ("nothing", "random", "list", "tensor", "empty_state", "code_in_a_state")},
        "cut": whole[: len(whole) // 2],
        "cut_at_the_end": whole[:-50],
        "weights": WHOLE,
        "without_optimiser": saved({name: value for name, value in state.items() if name != "optimizer"}),
        "without_trainer": saved({name: value for name, value in state.items() if name != "trainer"}),
        "nan": saved(state | {"model": {name: value * float("nan") for name, value in state["model"].items()}}),
        "optimiser_is_text": saved(state | {"optimizer": "adam"}),
    }


@pytest.mark.parametrize("number", range(13))
def test_a_damaged_state_is_refused_by_name_and_stays(program: Program, finished, tmp_path, number):
    kind, content = list(states(finished).items())[number]
    tmp_path.joinpath("training_state.pt").write_bytes(content)
    weights = (finished / "out" / "model.pt").read_bytes()
    tmp_path.joinpath("model.pt").write_bytes(weights)
    tmp_path.joinpath("model.json").write_bytes((finished / "out" / "model.json").read_bytes())
    words = ("--output", tmp_path, *TINY, "--max_epochs=3", "--resume=true")
    outcome = program.run("bundle", "train", finished / "data", *words)
    assert outcome.code == 1, f"{kind}: {outcome}"
    told(outcome, "training_state.pt")
    assert (tmp_path / "training_state.pt").read_bytes() == content
    assert (tmp_path / "model.pt").read_bytes() == weights


@pytest.mark.parametrize("overlay", ["variant_adam", "variant_fast", "variant_padded"])
def test_a_state_of_another_configuration_is_refused_by_name(program: Program, finished, overlay):
    words = ("--output", finished / "out", *TINY, "--max_epochs=3", "--resume=true", f"--overlay={overlay}")
    told(program.run("bundle", "train", finished / "data", *words), "training_state.pt")


def test_scores_that_are_no_numbers_are_an_error_of_the_image(program: Program, tmp_path):
    """Finite weights, but products above the range of float32 at bright pixels."""
    state = bright_cells()
    for name in ("contracting.0.0.weight", "contracting.0.2.weight"):
        state[name][0, 0, 1, 1] = 3e19
    path = write_weights(tmp_path / "weights", state)
    images = write_images(tmp_path / "images", count=2)
    outcome = program.run("bundle", "segment", images, "--weights", path, "--output", tmp_path / "out", "--device=cpu")
    assert outcome.code == 1, str(outcome)
    assert "00.png" in outcome.text
    assert not list((tmp_path / "out").glob("classes/*"))


@pytest.mark.parametrize("value", [3e38, np.inf, np.nan])
def test_values_out_of_range_are_an_error_of_the_image(program: Program, weights, tmp_path, value):
    images = write_images(tmp_path / "images", count=1)
    pixels = np.random.default_rng(0).normal(0, 1, (96, 96)).astype(np.float32)
    pixels[40:50, 40:50], pixels[:5] = value, -value
    tifffile.imwrite(images / "huge.tif", pixels)
    outcome = program.run("bundle", "segment", images, "--weights", weights, "--output", tmp_path / "out")
    huge = tmp_path / "out" / "probabilities" / "huge.tif"
    if value == 3e38 and outcome.code == 0:  # a program may compute with such values, but then rightly
        found = tifffile.imread(huge)
        assert np.isfinite(found).all()
        assert found[1, 45, 45] > 0.5 > found[1, 20, 20]
        return
    assert outcome.code == 1, str(outcome)
    assert "huge.tif" in outcome.last
    assert not huge.exists()
    assert len(list((tmp_path / "out").glob("classes/*"))) == 1
