"""Weights of trainings by MONAI's engines, with a tiny network."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch import nn

from scripts.handlers.checkpoints import LoadWeights, load_weights, save_weights
from scripts.settings import read_settings
from tests.scripts.handlers.scripted import bias, training

NAN = float("nan")


def test_weights_of_the_best_validation_are_kept_flat(tmp_path):
    seen = {}
    for epochs in (1, 2, 3):
        trainer, network = training(tmp_path / str(epochs), [0.5, 0.9, 0.7], epochs)
        trainer.run()
        seen[epochs] = network.bias.item()
    assert bias(tmp_path / "3" / "model.pt") == seen[2] != seen[3]
    assert set(torch.load(tmp_path / "3" / "model.pt", weights_only=True)) == {"weight", "bias"}


def test_training_stops_after_as_many_validations_without_gain_as_the_patience(tmp_path):
    trainer, _ = training(tmp_path, [0.5, 0.9, 0.8, 0.9, 0.95, 0.99], epochs=6, patience=2)
    trainer.run()
    assert trainer.state.epoch == 4


def test_a_training_that_is_never_validated_keeps_its_last_weights(tmp_path):
    trainer, network = training(tmp_path, [], epochs=2, validated=False)
    with pytest.warns(UserWarning, match="`dataloader` is empty"):
        trainer.run()
    assert bias(tmp_path / "model.pt") == network.bias.item()


def test_saved_weights_load_back_from_either_file(tmp_path):
    trainer, network = training(tmp_path, [0.5], epochs=1)
    trainer.run()
    for name in ("model.pt", "training_state.pt"):
        other = nn.Conv2d(1, 1, 1)
        load_weights(other, tmp_path / name)
        assert torch.equal(other.weight, network.weight)


def test_a_wrapper_for_several_gpus_does_not_show_in_the_file(tmp_path):
    network = nn.Conv2d(1, 1, 1)
    save_weights(nn.DataParallel(network), tmp_path / "model.pt")
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == {"weight", "bias"}
    other = nn.Conv2d(1, 1, 1)
    load_weights(nn.DataParallel(other), tmp_path / "model.pt")
    assert torch.equal(other.weight, network.weight)


def test_nothing_is_predicted_without_weights(tmp_path):
    network = nn.Conv2d(1, 1, 1)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.ones(1, 1, 2, 2)}],
        network=network,
        val_handlers=[LoadWeights(tmp_path / "model.pt", network)],
    )
    with pytest.raises(FileNotFoundError, match="ckpt_path"):
        evaluator.run()


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_weights_that_hold_code_are_refused(tmp_path, capsys):
    torch.save({"weight": Harmful()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="not a file of plain tensors"):
        load_weights(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")
    assert "code ran" not in capsys.readouterr().out


def test_weights_of_another_network_are_refused_with_its_difference(tmp_path):
    save_weights(nn.Conv2d(1, 2, 1), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"does not fit the network.*weight has the shape \(2, 1, 1, 1\)"):
        load_weights(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")


def test_a_training_whose_scores_are_all_nan_keeps_its_last_weights(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer, network = training(tmp_path, [NAN] * 3, epochs=3)
    trainer.run()
    assert bias(tmp_path / "model.pt") == network.bias.item()
    saved = read_settings(tmp_path / "model.pt").training
    assert (saved.best, saved.epoch) == (None, 3)
    assert "best score" not in caplog.text
    assert "best metric" not in caplog.text


def test_the_first_number_replaces_weights_without_a_score(tmp_path):
    seen = {}
    trainer, network = training(tmp_path, [NAN, 0.2, NAN, 0.1], epochs=4)
    trainer.add_event_handler("EPOCH_COMPLETED", lambda: seen.update({trainer.state.epoch: network.bias.item()}))
    trainer.run()
    assert bias(tmp_path / "model.pt") == seen[2]
    assert read_settings(tmp_path / "model.pt").training.best == pytest.approx(0.2)


def test_weights_to_start_from_are_not_replaced_while_the_score_is_nan(tmp_path):
    save_weights(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")
    served = (tmp_path / "model.pt").read_bytes()
    trainer, _ = training(tmp_path, [NAN, NAN, 0.5], epochs=3)
    kept = []
    trainer.add_event_handler("EPOCH_STARTED", lambda: kept.append((tmp_path / "model.pt").read_bytes() == served))
    trainer.run()
    assert kept == [True] * 3
    assert read_settings(tmp_path / "model.pt").training.best == pytest.approx(0.5)
