"""Every wrong file of weights is one message with the file, the reason and the remedy. Code is never run or advised."""

from __future__ import annotations

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from scripts.handlers.checkpoints import load_weights, save_weights
from scripts.handlers.weights import read_tensors
from scripts.networks.unet import RonnebergerUNet


def small_net(**arguments: Any) -> RonnebergerUNet:
    return RonnebergerUNet(**{"features": (4, 8), **arguments})


def refusal(path: Path, network: nn.Module) -> str:
    """Get the message with which a file is refused."""
    with pytest.raises(ValueError, match="weights: ") as raised:
        read_tensors(path, network.state_dict())
    message = str(raised.value)
    assert str(path) in message
    assert "weights_only" not in message  # torch's advice to run the code
    return message


def cut_off(path: Path) -> None:
    torch.save(small_net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-500])


def damaged_inside(path: Path) -> None:
    torch.save(small_net().state_dict(), path)
    content = bytearray(path.read_bytes())
    start = content.find(b"contracting")
    content[start - 40 : start + 40] = bytes(80)
    path.write_bytes(content)


def zip_of_texts(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def exported(path: Path) -> None:
    torch.jit.save(torch.jit.script(small_net()), path)


FILES = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("hello\n"), "another kind"),
    "an old pickle": (lambda path: path.write_bytes(pickle.dumps({"weight": [1, 2]})), "state_dict"),
    "cut off": (cut_off, "cut off"),
    "damaged inside": (damaged_inside, "damaged"),
    "a zip file of texts": (zip_of_texts, "zip file of other things"),
    "a whole network with its code": (lambda path: torch.save(small_net(), path), "RonnebergerUNet"),
    "an exported network": (exported, "backend"),
    "a list": (lambda path: torch.save([torch.ones(2)], path), "list"),
    "a tensor": (lambda path: torch.save(torch.ones(2), path), "Tensor"),
    "numbered tensors": (lambda path: torch.save({0: torch.ones(2)}, path), "holds 0"),
    "nothing": (lambda path: torch.save({}, path), "holds nothing"),
    "numbers": (lambda path: torch.save({"model": 3}, path), "int"),
    "a checkpoint of another program": (
        lambda path: torch.save({"epoch": 3, "state_dict": small_net().state_dict()}, path),
        "epoch, state_dict",
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_refused_with_the_reason(name, tmp_path):
    write, reason = FILES[name]
    write(tmp_path / "model.pt")
    assert reason in refusal(tmp_path / "model.pt", small_net())


@pytest.mark.parametrize(
    "arguments, told",
    [
        ({"features": (4, 16)}, ["[4, 16]", "[4, 8]", "network_def#features"]),
        ({"features": (4, 8, 16)}, ["[4, 8, 16]", "[4, 8]"]),
        ({"in_channels": 3}, ["in_channels 3", "1 in the network"]),
        ({"out_channels": 4}, ["out_channels 4", "2 in the network"]),
        ({"norm": "batch"}, ["is unknown", "more"]),
        ({"up_features": [3]}, ["expansive.0.up.weight", "expected (8, 4, 2, 2)"]),
    ],
)
def test_weights_of_another_network_are_refused_with_both_widths(arguments, told, tmp_path):
    torch.save(small_net(**arguments).state_dict(), tmp_path / "model.pt")
    message = refusal(tmp_path / "model.pt", small_net())
    assert all(part in message for part in told)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_with_the_name_of_a_tensor(value, tmp_path):
    state = small_net().state_dict()
    state["scores.bias"][0] = value
    torch.save(state, tmp_path / "model.pt")
    message = refusal(tmp_path / "model.pt", small_net())
    assert "1 of 16 tensors" in message
    assert "scores.bias" in message


def test_a_state_gives_the_averaged_weights_and_names_the_best(tmp_path, caplog):
    last, average = small_net().state_dict(), small_net().state_dict()
    torch.save({"model": last, "average": average, "trainer": {"iteration": 3}}, tmp_path / "training_state.pt")
    read = read_tensors(tmp_path / "training_state.pt", last)
    assert all(torch.equal(read[name], average[name]) for name in average)
    assert not torch.equal(read["scores.weight"], last["scores.weight"])
    assert "model.pt" in caplog.text


def test_whole_numbers_are_no_weights(tmp_path):
    torch.save({name: values.long() for name, values in small_net().state_dict().items()}, tmp_path / "model.pt")
    assert "torch.int64" in refusal(tmp_path / "model.pt", small_net())


def test_half_precision_is_read(tmp_path):
    state = small_net().half().state_dict()
    torch.save(state, tmp_path / "model.pt")
    assert read_tensors(tmp_path / "model.pt", small_net().state_dict()).keys() == state.keys()


def test_layers_that_fit_are_loaded_and_the_others_listed_in_one_line(tmp_path, caplog):
    start, network = RonnebergerUNet(features=(2, 4)), RonnebergerUNet(features=(2, 4), out_channels=5)
    state = start.state_dict() | {"more.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "model.pt")
    own = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        load_weights(network, tmp_path / "model.pt", partly=True)
    (line,) = [record.getMessage() for record in caplog.records]
    assert all(part in line for part in (str(tmp_path / "model.pt"), "initialised anew: scores", "not used: more"))
    for name, values in network.state_dict().items():
        assert torch.equal(values, own[name] if name.startswith("scores.") else state[name])


def test_weights_without_a_layer_that_fits_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"no layer of .*model\.pt.*network_def"):
        load_weights(RonnebergerUNet(features=(2, 4)), tmp_path / "model.pt", partly=True)
    save_weights(RonnebergerUNet(features=(3, 6)), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"features \[3, 6\].*\[2, 4\]"):
        load_weights(RonnebergerUNet(features=(2, 4)), tmp_path / "model.pt", partly=True)


def test_layers_that_are_not_trained_must_be_in_the_weights(tmp_path):
    save_weights(RonnebergerUNet(features=(2, 4)), tmp_path / "model.pt")
    network = RonnebergerUNet(features=(2, 4), in_channels=3)
    network.contracting.requires_grad_(False)
    with pytest.raises(ValueError, match=r"contracting\.0\.0.*freeze_contracting"):
        load_weights(network, tmp_path / "model.pt", partly=True)
