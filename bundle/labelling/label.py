"""`python -m bundle label`: serve the bundle to annotation programs, with MONAI Label's own server."""

from __future__ import annotations

import json
import os
import shlex
import socket
from pathlib import Path
from typing import Any

from bundle.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "ORIGINAL_UNET_LABEL_ENV"  # where the environment is that holds MONAI Label
ENDINGS = (
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".jpg",
    ".jpeg",
    ".nii.gz",
    ".nii",
    ".mha",
    ".nrrd",
)  # tried with its server
SHOWN = 5


def label(
    studies: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    app: str = "output/label",
    weights: str | None = None,
    inference: str | list[str] = "configs/inference.yaml",
    training: str | list[str] = "configs/train.yaml",
    epistemic_dropout: float | None = None,
    overwrite: bool = False,
    prepare_only: bool = False,
    **override: Any,
) -> None:
    """Serve the bundle with MONAI Label, for annotation programs.

    MONAI Label needs an environment of its own: make label-env, once (or $ORIGINAL_UNET_LABEL_ENV, a folder). Nothing
    is downloaded. The server keeps its notes and the labels in STUDIES: datastore_v2.json, labels/original (proposed),
    labels/final (submitted). It asks nobody for a password: leave it on 127.0.0.1 unless the network is yours.

    Any key of the two configurations can be set, as with `run`: --orientations 8, --min_area 40,
    --served_instances true (labels are numbered objects), --class_names ..., --num_workers 0.

    Args:
        studies: folder of images, one plane each.
        host: address to listen at; 0.0.0.0 for every network.
        port: port to listen at.
        app: folder for what the server needs; made if absent. Weights that clients have trained stay in it.
        weights: file of weights; they are copied. Default: those in `app`, else models/model.pt.
        inference: configuration or list of them, "['configs/inference.yaml','configs/demo_inference.yaml']".
        training: likewise; must fit the same weights.
        epistemic_dropout: rate, e.g. 0.5: score unlabelled images by how much repeated inference with dropout differs,
            and offer the strategy epistemic. Runs by itself in the background, five times inference for every image.
        overwrite: replace weights in `app` by `weights`.
        prepare_only: prepare the folder, show the command that starts the server, and stop.
        override: keys of the configurations and their new values.
    """
    from bundle.labelling.label_folder import NAME, prepare_app, prepare_bundle, read_configs  # imports torch

    folder = Path(str(studies)).expanduser().resolve()
    if epistemic_dropout is not None and not 0 < epistemic_dropout < 1:
        raise UsageError(f"--epistemic_dropout is {epistemic_dropout}, expected a rate between 0 and 1")
    python = environment_python()
    configs = read_configs(_listed(inference), _listed(training), override)
    count, notes = check_images(folder, configs["inference"]["in_channels"])
    check_port(host, port)
    apps = Path(str(app)).expanduser().resolve()
    chosen = None if weights is None else Path(str(weights)).expanduser().resolve()
    app_folder = prepare_app(apps, python)
    served = prepare_bundle(app_folder, configs, chosen, overwrite)

    command = [str(python), "-m", "monailabel.main", "start_server", "--app", str(app_folder), "--studies", str(folder)]
    command += ["--host", host, "--port", str(port)]
    settings = {"models": NAME, "zoo_source": "local", "sam2": "false"}  # local: else it asks the network for the zoo
    if epistemic_dropout is not None:
        settings |= {"epistemic_model": NAME, "epistemic_dropout": str(epistemic_dropout)}
    command += [word for pair in settings.items() for word in ("--conf", *pair)]
    for note in notes:
        print(f"note: {note}")
    print(f"{folder}: {count} images; the served bundle, its weights and figures are in {served}")
    environment = server_environment()
    if prepare_only:
        names = [f"{name}={shlex.quote(value)}" for name, value in environment.items() if os.environ.get(name) != value]
        print(f"start it in {app_folder} by\n  {' '.join(names)} {shlex.join(command)}")
        return
    shown = "127.0.0.1" if host == "0.0.0.0" else host
    print(f"MONAI Label answers at http://{shown}:{port} in some seconds; Ctrl-C ends it", flush=True)
    os.chdir(app_folder)
    os.execve(command[0], command, environment)  # the server takes this process's place, and its signals


def environment_python() -> Path:
    """The interpreter of MONAI Label's environment: $ORIGINAL_UNET_LABEL_ENV, else `.venv-label` in the checkout.

    Raises:
        UsageError: there is none, or none with MONAI Label.
    """
    folder = Path(os.environ.get(ENVIRONMENT) or ROOT / ".venv-label").expanduser().absolute()
    found = [folder / "bin" / "python", folder / "Scripts" / "python.exe"]
    python = next((path for path in found if path.is_file()), None)
    if python is None:
        raise UsageError(f"no environment for MONAI Label at {folder}: make label-env builds it, or set ${ENVIRONMENT}")
    if not any(folder.glob("[lL]ib*/**/site-packages/monailabel/main.py")):
        raise UsageError(f"{folder} does not hold MONAI Label: make label-env builds an environment that does")
    return python


def check_images(folder: Path, in_channels: int) -> tuple[int, list[str]]:
    """What of a folder can be served.

    Args:
        folder: of images.
        in_channels: that the network takes.

    Returns:
        the number of images that can, and a line for every kind of those that cannot.

    Raises:
        UsageError: there is no folder, or nothing in it that can; or two images of one name, which the server takes for
            one.
    """
    from scripts.data.datalist import find_images
    from scripts.io.image_file import ImageFileError
    from scripts.io.names import split_address
    from scripts.io.reader import read_header

    if not folder.is_dir():
        raise UsageError(f"--studies {folder} is no folder; give the folder that holds the images")
    try:
        items = find_images(folder)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error).replace("set dataset_dir to", "give as --studies")) from error
    files = dict.fromkeys(split_address(item["image"])[0] for item in items)
    refused: dict[str, list[str]] = {}
    for file in files:
        reason = ""
        if not file.name.lower().endswith(ENDINGS):
            reason = f"of a format that MONAI Label does not list (it does {', '.join(ENDINGS)})"
        else:
            try:
                header = read_header(file)
            except (ImageFileError, FileNotFoundError):
                reason = "damaged"
            else:
                if header.planes > 1:
                    reason = "of several planes, which MONAI Label cannot address: save each as a file"
                elif header.channels != in_channels:
                    reason = f"not of {in_channels} channels (in_channels): convert them"
        if reason:
            refused.setdefault(reason, []).append(file.name)
    notes = []
    for reason, names in refused.items():
        some = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        notes.append(f"not served, {reason}: {some}")
    left = len(files) - sum(map(len, refused.values()))
    if not left:
        raise UsageError(f"--studies {folder} holds no image that can be served; " + "; ".join(notes))
    return left, notes


def check_port(host: str, port: int) -> None:
    """Raise UsageError where the server could not listen."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET):
            pass
    except (OSError, OverflowError, TypeError) as error:
        raise UsageError(f"cannot listen at {host}:{port} ({error}); choose another --port or --host") from error


def server_environment() -> dict[str, str]:
    """Variables that MONAI Label reads, over those of this process."""
    endings = [f"*{ending}" for ending in (*ENDINGS, *map(str.upper, ENDINGS))]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment.setdefault("CUDA_VISIBLE_DEVICES", "0")  # of several GPUs it would start a training that ends unsaid
    return environment | {
        "MONAI_LABEL_RELOAD_APP_LIB": "false",  # one bundle: reloading its scripts for every step races with itself
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(endings),
        "PYTHONUNBUFFERED": "1",
    }


def _listed(given: str | list[str]) -> list[str]:
    """Names of files from one, a list, or names joined by commas; those of the bundle from wherever it is called."""
    names = given.strip("[]").split(",") if isinstance(given, str) else given
    paths = [Path(str(name).strip()) for name in names]
    return [str(ROOT / path if not path.is_file() and (ROOT / path).is_file() else path) for path in paths]
