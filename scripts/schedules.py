"""The learning rate over a training; the paper leaves it open."""

from __future__ import annotations

from typing import Any

from monai.optimizers import WarmupCosineSchedule as _WarmupCosineSchedule


class WarmupCosineSchedule(_WarmupCosineSchedule):
    """MONAI's linear warm-up and cosine decay, of which a resumed training takes the position, not the length.

    MONAI's own restores `t_total` from the saved state: a finished training that is resumed with more epochs would go
    on with a learning rate of 0. Here the configuration decides, and the saved state only says how far the training
    is. Arguments are those of `monai.optimizers.WarmupCosineSchedule`.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over everything but what the configuration says."""
        configured = {name: getattr(self, name) for name in ("warmup_steps", "t_total", "end_lr", "cycles")}
        super().load_state_dict({**state_dict, **configured})
