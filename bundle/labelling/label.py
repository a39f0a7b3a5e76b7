"""`python -m bundle label`: serve the bundle to annotation programs, with MONAI Label's own server."""

from __future__ import annotations

import json
import os
import shlex
import socket
from pathlib import Path
from typing import Any

from bundle.running.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "ORIGINAL_UNET_LABEL_ENV"  # names the folder of MONAI Label's Python environment
# formats tried with MONAI Label's server
ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".nii.gz", ".nii", ".mha", ".nrrd")
SHOWN = 5  # file names in a message


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

    MONAI Label needs a separate Python environment. Build the environment once with `make label-env`, or set
    $ORIGINAL_UNET_LABEL_ENV to its folder. The command downloads nothing.

    The server writes into STUDIES: datastore_v2.json (a list of images and labels), labels/original (proposed labels)
    and labels/final (submitted labels). The server has no password: stay on 127.0.0.1 unless you own the network.

    Any key of the two configurations can be set, as with `run`: --orientations 8, --min_area 40, --num_workers 0,
    --served_instances true (labels are numbered objects). Network and classes are those of the weights.

    Args:
        studies: folder of 2-D images, one plane per file.
        host: address to listen at; 0.0.0.0 for every network.
        port: port to listen at.
        app: folder for the server's files, also for weights trained by clients. Made if absent.
        weights: weights to serve; the server gets a copy. Default: the weights in `app`, else models/model.pt.
        inference: configuration, or a list: "['configs/inference.yaml','my.yaml']".
        training: configuration, or a list.
        epistemic_dropout: dropout rate, e.g. 0.5. Adds the strategy epistemic: the least certain image first. The
            server scores images without labels in the background, by five inferences with dropout for each image.
        overwrite: let `weights` replace the weights in `app`.
        prepare_only: prepare the folder and print the command for the server, without starting the server.
        override: keys of the configurations and their new values.
    """
    from bundle.labelling.label_folder import (  # import torch
        NAME,
        prepare_app,
        prepare_bundle,
        read_configs,
        served_weights,
        settings_of,
    )

    folder = _absolute(studies)
    if epistemic_dropout is not None and not 0 < epistemic_dropout < 1:
        raise UsageError(f"--epistemic_dropout is {epistemic_dropout}, expected a rate between 0 and 1")
    python = environment_python()
    source = served_weights(_absolute(app), None if weights is None else _absolute(weights))
    configs = read_configs(_listed(inference), _listed(training), override, source)
    count, notes = check_images(folder, settings_of(configs["inference"], source).in_channels)
    _check_port(host, port)
    app_folder = prepare_app(_absolute(app), python)
    served = prepare_bundle(app_folder, configs, source, overwrite)

    command = [str(python), "-m", "monailabel.main", "start_server", "--app", str(app_folder), "--studies", str(folder)]
    command += ["--host", host, "--port", str(port)]
    settings = {"models": NAME, "zoo_source": "local", "sam2": "false"}  # local: do not ask the zoo over the network
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
    os.execve(command[0], command, environment)  # the server replaces this process, so signals reach the server


def environment_python() -> Path:
    """Find the interpreter of MONAI Label's environment: $ORIGINAL_UNET_LABEL_ENV, else .venv-label in the checkout.

    Raises:
        UsageError: no environment, or an environment without MONAI Label.
    """
    folder = Path(os.environ.get(ENVIRONMENT) or ROOT / ".venv-label").expanduser().absolute()
    found = [folder / "bin" / "python", folder / "Scripts" / "python.exe"]
    python = next((path for path in found if path.is_file()), None)
    if python is None:
        raise UsageError(f"no environment for MONAI Label at {folder}: make label-env builds it, or set ${ENVIRONMENT}")
    if not any(folder.glob("[lL]ib*/**/site-packages/monailabel/main.py")):
        raise UsageError(f"{folder} does not hold MONAI Label: make label-env builds an environment with it")
    return python


def check_images(folder: Path, in_channels: int) -> tuple[int, list[str]]:
    """Count the images of a folder that can be served, and write a line for each reason to refuse images.

    Raises:
        UsageError: no folder, no image to serve, or two images of the same name with different endings. The server
            would mix up the two images.

    Example:
        >>> from PIL import Image
        >>> for mode in ("L", "RGB"):
        ...     Image.new(mode, (8, 8)).save(f"{mode}.png")
        >>> check_images(Path("."), in_channels=1)
        (1, ['not served, not of 1 channels (in_channels): convert them: RGB.png'])
    """
    from scripts.data.datalist import find_images
    from scripts.io.names import split_address

    if not folder.is_dir():
        raise UsageError(f"--studies {folder} is no folder; give the folder that holds the images")
    try:
        items = find_images(folder)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error).replace("set dataset_dir to", "give as --studies")) from error
    files = dict.fromkeys(split_address(item["image"])[0] for item in items)
    refused: dict[str, list[str]] = {}
    for file in files:
        refused.setdefault(_refusal(file, in_channels), []).append(file.name)
    count = len(refused.pop("", []))
    notes = []
    for reason, names in refused.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        notes.append(f"not served, {reason}: {', '.join(names[:SHOWN])}{more}")
    if not count:
        raise UsageError(f"--studies {folder} holds no image that can be served; " + "; ".join(notes))
    return count, notes


def _refusal(file: Path, in_channels: int) -> str:
    """Say why MONAI Label cannot serve an image. Empty if it can."""
    from scripts.io.image_file import ImageFileError
    from scripts.io.reader import read_header

    if not file.name.lower().endswith(ENDINGS):
        return f"MONAI Label does not list this format (it lists {', '.join(ENDINGS)})"
    try:
        header = read_header(file)
    except (ImageFileError, FileNotFoundError):
        return "damaged"
    if header.planes > 1:
        return "of several planes, which MONAI Label cannot address: save each as a file"
    return "" if header.channels == in_channels else f"not of {in_channels} channels (in_channels): convert them"


def _check_port(host: str, port: int) -> None:
    """Raise UsageError if a server cannot listen at an address."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET):
            pass
    except (OSError, OverflowError, TypeError) as error:
        raise UsageError(f"cannot listen at {host}:{port} ({error}); choose another --port or --host") from error


def server_environment() -> dict[str, str]:
    """Return the environment variables for MONAI Label: the variables of this process, and settings.

    Example:
        >>> server_environment()["MONAI_LABEL_RELOAD_APP_LIB"]
        'false'
    """
    endings = [f"*{ending}" for ending in (*ENDINGS, *map(str.upper, ENDINGS))]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several GPUs, a training ends without a message
    return environment | {
        "MONAI_LABEL_RELOAD_APP_LIB": "false",  # threads would reload the same scripts at the same time
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(endings),
        "PYTHONUNBUFFERED": "1",
    }


def _absolute(path: object) -> Path:
    return Path(str(path)).expanduser().resolve()  # str: fire reads a bare 2024 as a number


def _listed(given: str | list[str]) -> list[str]:
    """Split names of files (a list, or text with commas). Names without a file here are looked for in ROOT."""
    names = given.strip("[]").split(",") if isinstance(given, str) else given
    paths = [Path(str(name).strip()) for name in names]
    return [str(ROOT / path if not path.is_file() and (ROOT / path).is_file() else path) for path in paths]
