"""The learning rate's course, and what a resumed training takes over of it."""

from __future__ import annotations

import pytest
import torch

from scripts.handlers.training import WarmupCosineSchedule


def rates(steps: int, t_total: int, state: dict | None = None) -> tuple[list[float], dict]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=t_total)
    if state:
        schedule.load_state_dict(state)
    seen = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        seen.append(schedule.get_last_lr()[0])
    return seen, schedule.state_dict()


def test_rises_linearly_and_falls_as_a_cosine():
    seen, _ = rates(6, t_total=6)
    assert seen == pytest.approx([0.5, 1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)


def test_a_finished_training_resumed_with_more_epochs_still_learns():
    _, state = rates(6, t_total=6)
    seen, _ = rates(4, t_total=10, state=state)
    assert seen == pytest.approx(rates(10, t_total=10)[0][6:], abs=1e-6)
    assert seen[0] > 0.3
