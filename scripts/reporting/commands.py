"""List the commands to go on with after a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ..published import published
from .gather import Run


def next_commands(run: Run, program: str) -> list[tuple[str, str]]:
    """List pairs of purpose and command. Paths are those of the current folder.

    Args:
        run: from `read_run`.
        program: how the user calls the program.

    Example:
        >>> next_commands(Run(Path("out"), ("training",)), "program")
        [('Write this page again', 'program report out')]
    """
    data = run.record.get("data")
    dataset = "my/data" if data is None else str(data)
    weights = None if run.weights is None else weights_name(run.weights)
    split = run.folder / "split.json"

    def line(*words_of: str) -> str:
        return f"{program} {subprocess.list2cmdline([near(word) for word in words_of])}"

    found = []
    if "training" in run.kinds:
        if weights:
            found.append(("Segment images with the weights", line("segment", "my/images", "--weights", weights)))
            if split.is_file():
                words_of = ("evaluate", dataset, "--weights", weights, "--split_file", str(split))
                found.append(("Measure the held-out images again", line(*words_of)))
            found.append(
                ("Measure images that the training has not seen", line("evaluate", "my/test", "--weights", weights))
            )
            found.append(
                ("Annotate next what the weights are least sure of", line("rank", "my/images", "--weights", weights))
            )
        if (run.folder / "training_state.pt").is_file():
            more = ("--output", str(run.folder), "--resume", "true", "--max_epochs", str(2 * _epochs(run)))
            found.append(("Train longer (repeat overlays and other settings)", line("train", dataset, *more)))
    elif weights:
        if "segmentation" not in run.kinds:
            found.append(("Segment images with the weights", line("segment", "my/images", "--weights", weights)))
        found.append(
            ("Annotate next what the weights are least sure of", line("rank", "my/images", "--weights", weights))
        )
        found.append(
            ("Train on your own labels, starting from the weights", line("train", "my/data", "--from", weights))
        )
    if run.kinds == ("segmentation",) and data:
        more = ("--output", str(run.folder), "--skip_finished", "true", *(("--weights", weights) if weights else ()))
        found.append(("Go on after an interruption, or with more images", line("segment", dataset, *more)))
    again = line("report", str(run.folder)) if run.kinds != ("experiments",) else ""
    return [*found, *([("Write this page again", again)] if again else [])]


def weights_name(weights: Path) -> str:
    """Return the name of published weights, else the path.

    Example:
        >>> weights_name(Path("output/cells/model.pt"))
        'output/cells/model.pt'
    """
    names = {path.resolve(): name for name, path in published().items()}
    return names.get(weights.resolve(), str(weights))


def _epochs(run: Run) -> int:
    return int(run.history[-1]["epoch"] or 1) if run.history else 100


def near(word: str) -> str:
    """Shorten an absolute path below the current folder."""
    path = Path(word)
    try:
        return path.relative_to(Path.cwd()).as_posix() or "." if path.is_absolute() else word
    except ValueError:
        return word
