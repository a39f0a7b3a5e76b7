"""`python -m bundle label`: serve the bundle to annotation programs, with MONAI Label's own server."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import json
import os
import re
import secrets
import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bundle.labelling.guard.allowed import IMAGES
from bundle.publishing.layout import NAME
from bundle.running.errors import UsageError
from bundle.running.weights import named_weights

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "ORIGINAL_UNET_LABEL_ENV"  # names the folder of MONAI Label's Python environment
SHOWN = 5  # file names in a message
MENDED = (0, 8, 8)  # first version of MONAI Label without the published vulnerabilities
ADVISORIES = "CVE-2026-133968 and others, https://github.com/Project-MONAI/MONAILabel/security/advisories"


def label(
    studies: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    app: str = "output/label",
    labels: str | None = None,
    weights: str | None = None,
    inference: str | list[str] = "configs/inference.yaml",
    training: str | list[str] = "configs/train.yaml",
    epistemic_dropout: float | None = None,
    allow_origin: str | list[str] = "",
    token: bool = False,
    overwrite: bool = False,
    prepare_only: bool = False,
    **override: Any,
) -> None:
    """Serve the bundle with MONAI Label, for annotation programs.

    MONAI Label needs a separate Python environment. Build the environment once with `make label-env`, or set
    $ORIGINAL_UNET_LABEL_ENV to its folder. The command downloads nothing.

    Nothing is written into STUDIES. The server writes into the folder STUDIES_labels beside it: datastore_v2.json (a
    list of images and labels), labels/original (proposed labels) and labels/final (submitted labels).

    Only requests of the guide are answered. With a host other than 127.0.0.1, clients need the printed token: 3D Slicer
    and QuPath ask for a password (the token) and a user name (any).

    Any key of the two configurations can be set, as with `run`: --orientations 8, --min_area 40, --num_workers 0,
    --served_instances true (labels are numbered objects). Network and classes are those of the weights.

    Args:
        studies: folder of 2-D images, one plane per file.
        host: address to listen at; 0.0.0.0 for every network.
        port: port to listen at.
        app: folder for the server's files, also for weights trained by clients. Made if absent.
        labels: folder for labels. Default: STUDIES_labels.
        weights: weights to serve, a file or the name of published weights; the server gets a copy. Default: the weights
            in `app`, else em.
        inference: configuration, or a list: "['configs/inference.yaml','my.yaml']".
        training: configuration, or a list.
        epistemic_dropout: dropout rate, e.g. 0.5. Adds the strategy epistemic: the least certain image first. The
            server scores images without labels in the background, by five inferences with dropout for each image.
        allow_origin: addresses of web pages with access, and of this server under a name: http://gpu-box:8000.
        token: ask for a token on 127.0.0.1, too, for machines with several users.
        overwrite: let `weights` replace the weights in `app`.
        prepare_only: prepare the folder and print the command for the server, without starting the server.
        override: keys of the configurations and their new values.
    """
    from bundle.labelling.label_folder import (  # import torch
        check_options,
        prepare_app,
        prepare_bundle,
        read_configs,
        served_weights,
        settings_of,
    )
    from bundle.labelling.studies import check_folder, prepare_studies

    folder = _absolute(studies)
    if epistemic_dropout is not None and not 0 < epistemic_dropout < 1:
        raise UsageError(f"--epistemic_dropout is {epistemic_dropout}, expected a rate between 0 and 1")
    access = access_rules(host, allow_origin, token)
    python = environment_python()
    named = named_weights("--weights", weights)
    source = served_weights(_absolute(app), None if named is None else _absolute(named))
    configs = read_configs(_listed(inference), _listed(training), override, source)
    check_options(configs["inference"], source)
    images, notes = check_images(folder, settings_of(configs["inference"], source).in_channels)
    _check_port(host, port)
    work = folder.with_name(f"{folder.name}_labels") if labels is None else _absolute(labels)
    check_folder(work, folder)
    with _locked(app=_absolute(app), labels=work):
        notes += prepare_studies(work, folder, images)
        app_folder = prepare_app(_absolute(app), python, {"model": NAME, **access})
        served = prepare_bundle(app_folder, configs, source, overwrite)
        command = [*_server_command(python, app_folder, work, epistemic_dropout), "--host", host, "--port", str(port)]
        for note in [*notes, *version_notes(monai_label_version(python), exposed=not _is_local(host))]:
            print(f"note: {note}")
        print(f"{folder}: {len(images)} images; labels go to {work / 'labels'}")
        print(f"the served bundle, its weights and figures are in {served}")
        if access["token"]:
            print(f"token: {access['token']} (3D Slicer, QuPath: the password, with any user name)")
        _serve(command, app_folder, f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", prepare_only)


@contextmanager
def _locked(**folders: Path) -> Iterator[None]:
    """Lock folders, named by their options. A server keeps the locks, since it replaces this process.

    Raises:
        UsageError: another process has a folder.
    """
    from scripts.io.locks import FolderInUseError, FolderLock

    with ExitStack() as locks:
        try:
            for key, folder in folders.items():
                locks.enter_context(FolderLock(folder, key))
        except FolderInUseError as error:
            raise UsageError(str(error)) from error
        yield


def _serve(command: list[str], app: Path, address: str, prepare_only: bool) -> None:
    """Replace this process by the server, or only print the command."""
    environment = server_environment(app)
    if prepare_only:
        names = [f"{name}={shlex.quote(value)}" for name, value in environment.items() if os.environ.get(name) != value]
        print(f"start it in {app / 'work'} by\n  {' '.join(names)} {shlex.join(command)}")
        return
    print(f"MONAI Label answers at {address} in some seconds; Ctrl-C ends it", flush=True)
    os.chdir(app / "work")  # empty: MONAI Label takes an image's ID for a path, if such a file exists
    os.execve(command[0], command, environment)  # the server replaces this process, so signals reach the server


def _server_command(python: Path, app: Path, studies: Path, epistemic_dropout: float | None) -> list[str]:
    settings = {"models": NAME, "zoo_source": "local", "sam2": "false"}  # local: do not ask the zoo over the network
    if epistemic_dropout is not None:
        settings |= {"epistemic_model": NAME, "epistemic_dropout": str(epistemic_dropout)}
    command = [str(python), "-m", "monailabel.main", "start_server", "--uvicorn_app", "guard.served:app"]
    command += ["--app", str(app), "--studies", str(studies)]
    return command + [word for pair in settings.items() for word in ("--conf", *pair)]


def access_rules(host: str, allow_origin: str | list[str] = "", token: bool = False) -> dict[str, Any]:
    """Return who may call the server: names of the server, origins of web pages, and a new token if needed.

    Raises:
        UsageError: an origin is no address such as https://viewer.example.

    Example:
        >>> access_rules("127.0.0.1", "https://viewer.example")
        {'hosts': ['viewer.example'], 'origins': ['https://viewer.example'], 'token': None}
    """
    given = allow_origin.strip("[]").split(",") if isinstance(allow_origin, str) else allow_origin
    origins = [str(name).strip(" '\"") for name in given if str(name).strip()]
    for origin in origins:
        if not re.fullmatch(r"https?://[\w.-]+(:\d+)?", origin):
            raise UsageError(f"--allow_origin is {origin!r}, expected an address such as https://viewer.example")
    hosts = [str(urlsplit(origin).hostname) for origin in origins]
    if not _is_local(host):
        hosts += [host, socket.gethostname()]
    needed = token or not _is_local(host)
    return {"hosts": hosts, "origins": origins, "token": secrets.token_urlsafe(24) if needed else None}


def _is_local(host: str) -> bool:
    """Find whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def monai_label_version(python: Path) -> str:
    """Return the version of MONAI Label in an environment, without importing it."""
    folders = [str(path) for path in python.parents[1].glob("[lL]ib*/**/site-packages")]
    found = next(iter(importlib.metadata.distributions(name="monailabel", path=folders)), None)
    return found.version if found else "unknown"


def version_notes(version: str, exposed: bool) -> list[str]:
    """Name the version of MONAI Label and its known vulnerabilities.

    Args:
        version: of MONAI Label.
        exposed: other machines can reach the server.

    Example:
        >>> version_notes("0.8.9", exposed=True)
        ['MONAI Label 0.8.9']
    """
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if numbers >= MENDED:
        return [f"MONAI Label {version}"]
    known = f"MONAI Label {version} has vulnerabilities, mended in 0.8.6 to 0.8.8 ({ADVISORIES})"
    notes = [f"{known}. Requests that use the vulnerabilities are refused before they reach MONAI Label"]
    if exposed:
        notes.append(
            "WARNING: other machines can reach this version. Better: 127.0.0.1 and a tunnel: ssh -L 8000:127.0.0.1:8000"
        )
    return notes


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


def check_images(folder: Path, in_channels: int) -> tuple[list[Path], list[str]]:
    """List the images of a folder that can be served, and write a line for each reason to refuse images.

    Raises:
        UsageError: no folder, no image to serve, or two images of the same name with different endings. The server
            would mix up the two images.

    Example:
        >>> from PIL import Image
        >>> for mode in ("L", "RGB"):
        ...     Image.new(mode, (8, 8)).save(f"{mode}.png")
        >>> check_images(Path("."), in_channels=1)
        ([PosixPath('L.png')], ['not served, not of 1 channels (in_channels): convert them: RGB.png'])
    """
    from scripts.data.datalist import find_images
    from scripts.data.items import paths_in
    from scripts.io.names import split_address

    if not folder.is_dir():
        raise UsageError(f"--studies {folder} is no folder; give the folder that holds the images")
    try:
        items = find_images(folder)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error).replace("set dataset_dir to", "give as --studies")) from error
    groups = [list(paths_in([item["image"]])) for item in items]  # files of the channels
    refused: dict[str, list[Path]] = {}
    for file, channels in {split_address(group[0])[0]: len(group) for group in groups}.items():
        refused.setdefault(_refusal(file, channels, in_channels), []).append(file)
    served = refused.pop("", [])
    notes = []
    for reason, paths in refused.items():
        names = [path.name for path in paths]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        notes.append(f"not served, {reason}: {', '.join(names[:SHOWN])}{more}")
    if not served:
        raise UsageError(f"--studies {folder} holds no image that can be served; " + "; ".join(notes))
    return served, notes


def _refusal(file: Path, files: int, in_channels: int) -> str:
    """Say why MONAI Label cannot serve an image of one or more files. Empty if it can."""
    from scripts.io.reader import read_header

    if not file.name.lower().endswith(IMAGES):
        return f"MONAI Label does not list this format (it lists {', '.join(IMAGES)})"
    if files > 1:
        return "several channels in files, which MONAI Label cannot address: save all channels as one file"
    try:
        header = read_header(file)
    except Exception:  # whatever a damaged file raises
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


def server_environment(app: Path) -> dict[str, str]:
    """Return the environment variables for MONAI Label: the variables of this process, and settings.

    Args:
        app: folder of the app, with the package `guard`.

    Example:
        >>> server_environment(Path("app"))["MONAI_LABEL_RELOAD_APP_LIB"]
        'false'
    """
    endings = [f"*{ending}" for ending in (*IMAGES, *map(str.upper, IMAGES))]
    replaced = (
        "PYTHONPATH",
        "PYTHONHOME",
        "MONAI_LABEL_API_STR",
        "MONAI_LABEL_CORS_ORIGINS",
        "MONAI_LABEL_AUTH_ENABLE",
    )
    environment = {name: value for name, value in os.environ.items() if name not in replaced}
    environment.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several GPUs, a training ends without a message
    return environment | {
        "PYTHONPATH": str(app),
        "MONAI_LABEL_RELOAD_APP_LIB": "false",  # threads would reload the same scripts at the same time
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(endings),
        "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
        "TMPDIR": str(app / "tmp"),  # uploaded files, away from those of other programs
        "PYTHONUNBUFFERED": "1",
    }


def _absolute(path: object) -> Path:
    return Path(str(path)).expanduser().resolve()  # str: fire reads a bare 2024 as a number


def _listed(given: str | list[str]) -> list[str]:
    """Split names of files (a list, or text with commas). Names without a file here are looked for in ROOT."""
    names = given.strip("[]").split(",") if isinstance(given, str) else given
    paths = [Path(str(name).strip()) for name in names]
    return [str(ROOT / path if not path.is_file() and (ROOT / path).is_file() else path) for path in paths]
