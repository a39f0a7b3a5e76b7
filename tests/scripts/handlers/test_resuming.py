"""States of trainings: resumed trainings equal those that were never interrupted; unfit states are refused."""

from __future__ import annotations

import logging
import shutil
import signal
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.handlers.disk import continuing_later
from scripts.handlers.interruption import Interrupted
from scripts.handlers.resuming import SeedSteps, TrainingState, read_state
from tests.scripts.handlers.scripted import bias, training

resource = pytest.importorskip("resource", reason="limits the size of files; not on Windows")


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


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("event", [Events.GET_BATCH_STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED])
def test_a_signal_ends_the_step_and_the_resumed_training_equals_an_uninterrupted_one(event, number, code, tmp_path):
    scores = [0.1, 0.2, 0.3]
    whole, expected = training(tmp_path / "whole", scores, epochs=3)
    whole.run()
    trainer, _ = training(tmp_path, scores, epochs=3, interval=100)
    trainer.add_event_handler(event(once=3), lambda: signal.raise_signal(number))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        trainer.run()
    assert stop.value.code == code
    assert signal.getsignal(number) == before
    assert read_state(tmp_path / "training_state.pt")["trainer"]["iteration"] in (3, 4)  # 4: before its validation
    again, network = training(tmp_path, scores[1:], epochs=3, resume=True)
    again.run()
    assert again.state.iteration == 6
    assert torch.equal(network.weight, expected.weight)
    assert bias(tmp_path / "model.pt") == bias(tmp_path / "whole" / "model.pt")


def test_a_second_signal_stops_at_once_and_saves_nothing(tmp_path):
    trainer, _ = training(tmp_path, [0.1] * 9, epochs=9)
    past = []

    @trainer.on(Events.ITERATION_STARTED(once=3))
    def press_twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        past.append(1)

    with pytest.raises(Interrupted):
        trainer.run()
    assert past == []
    assert read_state(tmp_path / "training_state.pt")["trainer"]["iteration"] == 2  # of the last whole epoch


@pytest.mark.parametrize("epoch", [1, 3])  # the last of three, too
def test_an_interrupted_validation_is_made_up_for(tmp_path, epoch):
    scores = [0.1, 0.2, 0.3]
    trainer, _ = training(tmp_path, scores, epochs=3)

    @trainer.evaluator.on(Events.ITERATION_STARTED)
    def stop() -> None:
        if trainer.state.epoch == epoch:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        trainer.run()
    again, _ = training(tmp_path, scores[epoch - 1 :], epochs=3, resume=True)
    validated = []
    again.evaluator.add_event_handler(Events.COMPLETED, lambda: validated.append(again.state.epoch))
    again.run()
    assert validated == list(range(epoch, 4))
    assert again.state.best_key_metric == pytest.approx(0.3)


def test_resuming_without_a_state_says_where_it_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no training state at .*training_state\.pt.*--resume"):
        training(tmp_path, [0.5], epochs=1, resume=True)[0].run()


@pytest.mark.parametrize("patience", [0, 1])
def test_resuming_a_finished_training_is_no_error_and_changes_nothing(patience, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    training(tmp_path, [0.5, 0.4], epochs=9 if patience else 2, patience=patience)[0].run()
    before = (tmp_path / "model.pt").read_bytes()
    trainer, _ = training(tmp_path, [], epochs=9 if patience else 2, patience=patience, resume=True)
    trainer.run()
    assert trainer.state.iteration == 4
    assert (tmp_path / "model.pt").read_bytes() == before
    assert ("patience" if patience else "max_epochs") in caplog.text


def test_a_training_without_gain_goes_on_with_a_larger_patience(tmp_path):
    training(tmp_path, [0.5, 0.4], epochs=9, patience=1)[0].run()
    trainer, _ = training(tmp_path, [0.3, 0.6, 0.2, 0.2, 0.2], epochs=9, patience=3, resume=True)
    trainer.run()
    assert trainer.state.epoch == 7


def test_worse_weights_never_replace_better_ones_after_a_crash_between_both_files(tmp_path):
    training(tmp_path, [0.5], epochs=1)[0].run()
    earlier = tmp_path / "earlier.pt"
    shutil.copyfile(tmp_path / "training_state.pt", earlier)
    training(tmp_path, [0.9], epochs=2, resume=True)[0].run()
    best = (tmp_path / "model.pt").read_bytes()
    earlier.replace(tmp_path / "training_state.pt")  # as if the process had died after the weights
    trainer, _ = training(tmp_path, [0.7, 0.8], epochs=3, resume=True)
    trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == best
    assert trainer.state.validations_without_gain == 2


def test_weights_of_another_training_do_not_count_as_the_best_of_a_resumed_one(tmp_path):
    training(tmp_path, [0.9], epochs=1)[0].run()
    other = tmp_path / "other"
    training(other, [0.1], epochs=1)[0].run()
    shutil.copyfile(other / "training_state.pt", tmp_path / "training_state.pt")
    trainer, network = training(tmp_path, [0.2], epochs=2, resume=True)
    trainer.run()
    assert bias(tmp_path / "model.pt") == network.bias.item()


def test_deleted_weights_are_written_again(tmp_path):
    training(tmp_path, [0.9], epochs=1)[0].run()
    (tmp_path / "model.pt").unlink()
    training(tmp_path, [0.2], epochs=2, resume=True)[0].run()
    assert (tmp_path / "model.pt").is_file()


def test_untrained_weights_do_not_replace_the_best_when_resumed_with_a_validation_first(tmp_path):
    training(tmp_path, [0.1, 0.5], epochs=1, first=True)[0].run()
    before = (tmp_path / "model.pt").read_bytes()
    trainer, _ = training(tmp_path, [0.2], epochs=2, first=True, resume=True)
    trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == before


def test_another_key_metric_starts_its_comparison_anew(tmp_path, caplog):
    training(tmp_path, [0.9], epochs=1)[0].run()
    trainer, network = training(tmp_path, [0.2], epochs=2, resume=True, metric="other")
    trainer.run()
    assert bias(tmp_path / "model.pt") == network.bias.item()
    assert "the key metric is other, and was score" in caplog.text


def test_a_state_of_another_network_is_refused_with_the_file(tmp_path):
    training(tmp_path, [0.5], epochs=1)[0].run()
    with pytest.raises(ValueError, match=r"training_state\.pt does not fit.*network_def.*size mismatch"):
        training(tmp_path, [0.5], epochs=2, resume=True, network=nn.Conv2d(1, 1, 3, padding=1))[0].run()


OPTIMIZERS = [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam]


@pytest.mark.parametrize("before", OPTIMIZERS)
@pytest.mark.parametrize("now", OPTIMIZERS)
def test_a_state_of_another_optimiser_is_refused_with_the_options_of_both(before, now, tmp_path):
    training(tmp_path, [0.5], epochs=1, optimizer=before)[0].run()
    trainer, _ = training(tmp_path, [0.6], epochs=2, optimizer=now, resume=True)
    if before is now:
        trainer.run()
        return
    with pytest.raises(ValueError, match=rf"training_state\.pt.*{now.__name__}") as refused:
        trainer.run()
    only = before([torch.zeros(1)], lr=1).param_groups[0].keys() - now([torch.zeros(1)], lr=1).param_groups[0].keys()
    assert all(option in str(refused.value) for option in only)


def test_a_state_of_an_older_torch_lacks_new_options_of_the_optimiser(tmp_path):
    training(tmp_path, [0.5], epochs=1)[0].run()
    path = tmp_path / "training_state.pt"
    state = torch.load(path, weights_only=True)
    del state["optimizer"]["param_groups"][0]["fused"]
    torch.save({**state, "record": {"optimizer": "SGD"}}, path)
    trainer, _ = training(tmp_path, [0.6], epochs=2, resume=True)
    trainer.run()
    assert trainer.state.iteration == 4


def test_a_changed_learning_rate_takes_effect_and_is_said(tmp_path, caplog):
    training(tmp_path, [0.5, 0.5], epochs=2)[0].run()
    trainer, _ = training(tmp_path, [0.5], epochs=3, resume=True, lr=0.4)
    rates = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.run()
    assert rates == [pytest.approx(0.4 * 0.5**2)]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.4 * 0.5**3)  # by the schedule
    assert "learning_rate is 0.4, and was 0.1" in caplog.text


def test_another_changed_option_of_the_optimiser_takes_effect_and_is_said(tmp_path, caplog):
    training(tmp_path, [0.5], epochs=1)[0].run()
    trainer, _ = training(tmp_path, [0.5], epochs=2, resume=True, momentum=0.5)
    trainer.run()
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.5
    assert "momentum is 0.5, and was 0.9" in caplog.text


def damaged(path: Path, kind: str) -> None:
    """Damage a state."""
    content = path.read_bytes()
    state = torch.load(path, weights_only=True)
    if kind in ("cut", "random", "empty"):
        path.write_bytes({"cut": content[: len(content) // 2], "random": bytes(range(256)) * 9, "empty": b""}[kind])
        return
    state["model"]["bias"][:] = float("nan")
    words = {**state, "model": {"bias": [1.0]}}
    torch.save(
        {"list": [1, 2], "tensor": torch.ones(3), "weights": state["model"], "nan": state, "words": words}[kind], path
    )


@pytest.mark.parametrize("kind", ["cut", "random", "empty", "list", "tensor", "weights", "nan", "words"])
def test_a_damaged_state_is_refused_with_file_reason_and_remedy(kind, tmp_path):
    training(tmp_path, [0.5], epochs=1)[0].run()
    path = tmp_path / "training_state.pt"
    damaged(path, kind)
    with pytest.raises(ValueError, match=rf"{path}.*\(.+\).*--finetune {tmp_path / 'model.pt'}") as refused:
        training(tmp_path, [0.6], epochs=2, resume=True)[0].run()
    assert "weights_only" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None  # no trace with torch's advice


class Unsaveable:
    """An object whose state cannot be written from the second time on."""

    def __init__(self) -> None:
        self.times = 0

    def state_dict(self):
        self.times += 1
        return {} if self.times == 1 else {"code": lambda: 0}


def test_a_failed_save_keeps_the_state_of_the_epoch_before(tmp_path):
    trainer = Engine(lambda *_: None)
    path = tmp_path / "training_state.pt"
    TrainingState(path, {"other": Unsaveable()}).attach(trainer)
    with pytest.raises(Exception, match=r"pickle|lambda"):
        trainer.run([0, 0], max_epochs=2)
    assert torch.load(path, weights_only=True)["trainer"]["iteration"] == 2


def test_a_network_with_nan_never_replaces_a_good_state(tmp_path, caplog):
    trainer, network = training(tmp_path, [0.1] * 2, epochs=2)

    @trainer.on(Events.ITERATION_COMPLETED(once=4))
    def diverge() -> None:
        network.bias.data.fill_(float("nan"))

    trainer.run()
    assert read_state(tmp_path / "training_state.pt")["trainer"]["iteration"] == 2
    assert "step 4 is not saved: NaN" in caplog.text


def test_the_last_epoch_is_saved_once(tmp_path):
    trainer, _ = training(tmp_path, [0.1] * 2, epochs=2)
    times = []

    @trainer.on(Events.EPOCH_COMPLETED(once=2))
    def note() -> None:
        times.append((tmp_path / "training_state.pt").stat().st_mtime_ns)

    trainer.run()
    assert times == [(tmp_path / "training_state.pt").stat().st_mtime_ns]


def test_a_save_on_a_full_disk_keeps_the_earlier_files_and_names_the_remedy(tmp_path):
    training(tmp_path, [0.1] * 2, epochs=2)[0].run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    trainer, _ = training(tmp_path, [0.1] * 2, epochs=4, resume=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # writing beyond the limit raises OSError, as on a full disk
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    logging.disable()  # pytest keeps the log in a file, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"training_state\.pt.*too large.*--resume true"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
        logging.disable(logging.NOTSET)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_and_states_on_a_full_disk_end_with_file_and_remedy(small_disk):
    """torch.save reports only a wrong length in the file."""
    path, told = small_disk / "state.pt", r"state\.pt cannot be written: the disk is full.*--resume true"
    with pytest.raises(OSError, match=told), continuing_later(path), path.open("wb") as file:
        torch.save({"a": torch.zeros(200_000)}, file)


def test_a_resumed_training_whose_state_was_moved_aside_is_told_its_name(tmp_path):
    (tmp_path / "training_state.2.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"no training state at .*training_state\.2\.pt"):
        read_state(tmp_path / "training_state.pt")


def test_each_step_has_random_numbers_of_its_own_again_when_repeated():
    def draws(first: int, last: int) -> list[float]:
        drawn: list[float] = []
        trainer = Engine(lambda *_: drawn.append(torch.rand(1).item()))
        SeedSteps(3).attach(trainer)
        trainer.add_event_handler(Events.STARTED, lambda: setattr(trainer.state, "iteration", first))
        trainer.run([0] * last, max_epochs=1)
        return drawn

    whole = draws(0, 6)
    assert len(set(whole)) == 6
    assert draws(2, 6) == whole[2:]
