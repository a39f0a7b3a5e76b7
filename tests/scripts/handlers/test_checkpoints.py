"""Weights and states of trainings by MONAI's engines, with a tiny network."""

from __future__ import annotations

import logging
import pickle
import signal
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, LrScheduleHandler, ValidationHandler
from monai.metrics import CumulativeIterationMetric
from torch import nn

from scripts.handlers.checkpoints import BestWeights, LoadWeights, TrainingState, load_weights, save_weights

resource = pytest.importorskip("resource", reason="limits the size of files; not on Windows")


class Scripted(CumulativeIterationMetric):
    """A key metric with a given value per validation."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = iter(values)

    def _compute_tensor(self, y_pred, y=None, **_):
        return y_pred

    def aggregate(self):
        return torch.tensor(next(self.values))


def training(
    folder: Path,
    scores: list[float],
    epochs: int,
    patience: int = 0,
    resume: bool = False,
    interval=1,
    validated: bool = True,
):
    """Make a trainer of a tiny network, validated after each epoch with the given scores."""
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    data = [{"image": torch.ones(1, 1, 2, 2), "label": torch.zeros(1, 1, 2, 2)}] * 2
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data[:1] if validated else [],
        network=network,
        key_val_metric={"score": IgniteMetricHandler(Scripted(scores), output_transform=lambda o: (o[0]["pred"],) * 2)},
    )
    objects = {"model": network, "optimizer": optimizer, "lr_scheduler": schedule}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=data,
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[
            LrScheduleHandler(schedule),
            ValidationHandler(interval=1, validator=evaluator),
            BestWeights(folder / "model.pt", network, evaluator, patience=patience),
            TrainingState(folder / "training_state.pt", objects, interval=interval, resume=resume),
        ],
    )
    return trainer, network


def bias(path: Path) -> float:
    return torch.load(path, weights_only=True)["bias"].item()


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


def test_a_resumed_training_equals_one_that_was_never_interrupted(tmp_path):
    scores = [0.5, 0.9, 0.7, 0.8]
    whole, expected = training(tmp_path / "whole", scores, epochs=4)
    whole.run()
    training(tmp_path / "parts", scores, epochs=2)[0].run()
    trainer, network = training(tmp_path / "parts", scores[2:], epochs=4, resume=True)
    trainer.run()
    assert trainer.state.iteration == 8
    assert trainer.state.best_key_metric == pytest.approx(0.9)
    assert trainer.state.validations_without_gain == 2
    assert torch.equal(network.weight, expected.weight)  # momentum and learning rate continued, too
    assert bias(tmp_path / "parts" / "model.pt") == bias(tmp_path / "whole" / "model.pt")


def test_an_interruption_saves_the_state(tmp_path):
    trainer, _ = training(tmp_path, [0.1] * 9, epochs=9, interval=100)

    @trainer.on(Events.ITERATION_COMPLETED(once=5))
    def press_control_c() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert torch.load(tmp_path / "training_state.pt", weights_only=True)["trainer"]["iteration"] == 5


@pytest.mark.parametrize("epoch", [1, 3])  # the last of three, too
def test_an_interrupted_validation_is_made_up_for(tmp_path, epoch):
    scores = [0.1, 0.2, 0.3]
    trainer, _ = training(tmp_path, scores, epochs=3, interval=1)

    @trainer.on(Events.EPOCH_COMPLETED(once=epoch))
    def press_control_c() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again, _ = training(tmp_path, scores[epoch - 1 :], epochs=3, interval=1, resume=True)
    validated = []
    again.add_event_handler(Events.EPOCH_COMPLETED, lambda: validated.append(again.state.epoch))
    again.run()
    assert validated == list(range(epoch, 4))
    assert again.state.best_key_metric == pytest.approx(0.3)


def test_resuming_says_what_is_missing_or_already_done(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no training state at .*training_state\.pt.*--resume"):
        training(tmp_path, [0.5], epochs=1, resume=True)[0].run()
    training(tmp_path, [0.5], epochs=1)[0].run()
    with pytest.raises(ValueError, match=r"epoch 1.*max_epochs is 1"):
        training(tmp_path, [0.5], epochs=1, resume=True)[0].run()


def test_a_state_of_another_network_is_refused_with_the_file(tmp_path):
    training(tmp_path, [0.5], epochs=1)[0].run()
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    torch.save({**state, "model": nn.Conv2d(1, 2, 1).state_dict()}, tmp_path / "training_state.pt")
    with pytest.raises(ValueError, match=r"training_state\.pt does not fit.*network_def.*size mismatch"):
        training(tmp_path, [0.5, 0.6], epochs=2, resume=True)[0].run()


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


class Unsaveable:
    """An object whose state cannot be written from the second time on, as on a full disk."""

    def __init__(self) -> None:
        self.times = 0

    def state_dict(self):
        self.times += 1
        return {} if self.times == 1 else {"code": lambda: 0}

    def load_state_dict(self, state):
        pass


def test_a_failed_save_keeps_the_state_of_the_epoch_before(tmp_path):
    trainer = Engine(lambda *_: None)
    path = tmp_path / "training_state.pt"
    TrainingState(path, {"other": Unsaveable()}).attach(trainer)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        trainer.run([0, 0], max_epochs=2)
    assert torch.load(path, weights_only=True)["trainer"]["iteration"] == 2


def test_a_save_on_a_full_disk_keeps_the_earlier_state_and_leaves_nothing_else(tmp_path):
    training(tmp_path, [0.1] * 2, epochs=2)[0].run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    trainer, _ = training(tmp_path, [0.1] * 2, epochs=4, resume=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(
        signal.SIGXFSZ, signal.SIG_IGN
    )  # writing beyond the limit raises OSError, as on a full disk
    logging.disable()  # pytest keeps the log in a file, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"too large.*training_state\.pt"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
        logging.disable(logging.NOTSET)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
