"""Find the file of a training's state. Loads no torch, so that commands refuse at once."""

from __future__ import annotations

from pathlib import Path

STATE = "training_state.pt"


def check_state_file(path: str | Path) -> None:
    """Check that there is a state to resume from.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: no such file. The message names states of earlier trainings in the folder.

    Example:
        >>> check_state_file("training_state.pt")
        Traceback (most recent call last):
        FileNotFoundError: resume: no training state at training_state.pt. ...
    """
    path = Path(path)
    if path.is_file():
        return
    aside = sorted(path.parent.glob(f"{path.stem}.*{path.suffix}"))
    earlier = f" Earlier trainings are kept there, such as {aside[-1].name}: rename to continue." if aside else ""
    raise FileNotFoundError(
        f"resume: no training state at {path}.{earlier} Start without --resume, or set model_dir to its folder"
    )
