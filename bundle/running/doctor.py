"""`doctor`: find problems of machine and data before a training, worst first, each with its remedy."""

from __future__ import annotations

from json import dumps
from typing import Any

from .package import library_package
from .plan import LABELLED, check_exists, given_settings, results_of
from .program import command_line
from .terminal import printable, show, tracked

CODES = {"error": 1, "warning": 3, "note": 0, None: 0}  # 2: a command line that was not understood


def doctor(dataset: str | None = None, *, output: str | None = None, json: bool = False, **key: Any) -> int:
    """Find problems of machine and data before a training, worst first.

    Looks at packages, processor, memory, disk and folders, then at all images and labels by the checks of `train`, and
    measures a training step. Exit code: 0 no problem, 3 warnings, 1 errors: a training would be refused, or fail.

    Examples:
        python -m bundle doctor
        python -m bundle doctor my/data
        python -m bundle doctor my/data --json

    Args:
        dataset: images with labels, as for `train`. Default: the machine alone.
        output: folder of the results of the training. Default: output/<name of DATASET>.
        json: write JSON, for programs.
        key: settings of the training, such as label_kind or tiff_axes.
    """
    if dataset is not None:
        check_exists("DATASET", dataset, LABELLED)
    given = given_settings(key, "output", "json")
    folder = output or (str(results_of(dataset)) if dataset is not None else "output")
    found = library_package("planning").diagnose(
        dataset, folder, given, progress=lambda items: tracked(items, "looking")
    )
    if json:
        print(dumps(found.content(), indent=2))
    else:
        _print(found.content(), dataset)
    return CODES[found.worst]


def _print(content: dict[str, Any], dataset: str | None) -> None:
    machine, training, data = content["machine"], content["training"], content["data"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    shared = machine["shared_memory_mib"]
    space = f"memory {machine['memory_gib']} GiB free, disk {machine['disk_gib']} GiB free"
    _line("machine", f"{machine['processor']}; {space}{'' if shared is None else f', shared memory {shared} MiB'}")
    _line("packages", packages)
    if data:
        _line("data", data["words"])
    if data.get("labels"):
        _line("labels", data["labels"].partition(": ")[2])
    needs = f"about {training['memory_gib']} GiB"
    if "gpu_memory_gib" in training:
        needs += f", {training['gpu_memory_gib']} GiB of the GPU"
    if "seconds_a_step" in training:
        needs += (
            f"; {training['seconds_a_step']} s a step: {training['steps']} steps in {training['minutes']:g} minutes"
        )
    _line("training", f"{needs}; {training['features'][0]} features, tiles of {training['input_size']}")
    print()
    for problem in content["problems"]:
        _line(problem["severity"], f"{problem['subject']}: {problem['text']}")
    if not content["problems"]:
        print("no problems found")
    if dataset is not None and content["worst"] != "error":
        print(printable(f"next: {command_line('train', dataset)}"))


def _line(heading: str, text: str) -> None:
    show(f" {printable(text)}", heading=f"{heading:<9}")
