"""`python -m bundle label` without its server: refused arguments and images, and the server's environment."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from pydantic.fields import FieldInfo

from bundle.__main__ import main
from bundle.labelling.guard.keys import Options, Train
from bundle.labelling.label import (
    ENVIRONMENT,
    access_rules,
    check_images,
    monai_label_version,
    server_environment,
    version_notes,
)
from bundle.running.errors import UsageError
from scripts.options import SETTINGS

ROOT = Path(__file__).resolve().parents[3]
Refused = Callable[..., str]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a.png", "b.bmp"):
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(folder / name)
    return folder


@pytest.fixture
def hollow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with empty files in place of MONAI Label, for refusals before MONAI Label is started."""
    folder = tmp_path / "environment"
    for name in ("bin/python", "lib/python3.11/site-packages/monailabel/main.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    monkeypatch.setenv(ENVIRONMENT, str(folder))
    return folder


@pytest.fixture
def refused(images: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command, and return the error message. The command must not write files."""

    def run(*words: object, folder: Path = images) -> str:
        given = [
            "label",
            str(folder),
            "--app",
            str(tmp_path / "app"),
            "--weights",
            str(weights),
        ]
        assert main([*given, *map(str, words)]) == 2
        assert not (tmp_path / "app").exists()
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        return message

    return run


def test_without_the_environment_it_names_the_target_that_builds_it(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nowhere"))
    assert "make label-env builds it" in refused()
    (tmp_path / "nowhere" / "bin").mkdir(parents=True)
    (tmp_path / "nowhere" / "bin" / "python").touch()
    assert "does not hold MONAI Label: make label-env" in refused()


@pytest.mark.usefixtures("hollow")
@pytest.mark.parametrize("place", ["app", "labels"])
def test_a_second_server_of_one_folder_is_refused_before_anything_changes(
    place: str, images: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {name: tmp_path / name for name in ("app", "labels")}
    command = ["label", str(images), "--weights", str(weights), "--prepare_only"]
    command += [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]
    with subprocess.Popen(["sleep", "60"]) as other:
        folders[place].mkdir()
        holder = {"pid": other.pid, "host": socket.gethostname(), "started": "now", "command": "label"}
        (folders[place] / ".lock").write_text(json.dumps(holder))
        assert main(command) == 2
        other.kill()
    message = capsys.readouterr().err
    assert str(other.pid) in message
    assert f"set {place} to another folder" in message
    assert [path.name for path in folders[place].iterdir()] == [".lock"]
    files = [path for folder in folders.values() for path in folder.rglob("*")]
    assert files == [folders[place] / ".lock"]  # the lock of the other folder is free again


@pytest.mark.usefixtures("hollow")
def test_a_folder_with_files_of_the_user_is_refused_untouched(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine" / "labels").mkdir(parents=True)
    (tmp_path / "mine" / "a.png").write_text("mine")
    assert "has not written: a.png" in refused("--labels", tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["a.png", "labels"]


@pytest.mark.usefixtures("hollow")
def test_what_cannot_be_served_is_refused_before_anything_is_written(refused: Refused, tmp_path: Path) -> None:
    assert "is no folder" in refused(folder=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no images in" in refused(folder=tmp_path / "empty")
    assert "unknown key 'min_are'; did you mean 'min_area'?" in refused("--min_are", 3)
    assert "'close_gaps' is '50'" in refused("--close_gaps", 50)
    assert "expected a rate between 0 and 1" in refused("--epistemic_dropout", 5)
    assert "no configuration at nowhere.yaml" in refused("--inference", "nowhere.yaml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another --port" in refused("--port", taken.getsockname()[1])


@pytest.mark.usefixtures("hollow")
def test_an_unknown_name_of_weights_is_refused_with_the_names_that_are_there(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", str(images), "--app", str(tmp_path / "app"), "--weights", "nuclie"]) == 2
    message = capsys.readouterr().err
    assert [part for part in ("--weights", "'nuclie'", "em") if part not in message] == []
    assert not (tmp_path / "app").exists()


def test_images_that_monai_label_cannot_serve_are_named(images: Path) -> None:
    tifffile.imwrite(images / "stack.tif", np.zeros((3, 6, 8), np.uint8), photometric="minisblack")
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(images / "colour.png")
    (images / "broken.tif").write_bytes(b"II*\0")
    served, notes = check_images(images, in_channels=1)
    assert [path.name for path in served] == ["a.png", "b.bmp"]
    for name, reason in (
        ("stack.tif", "several planes"),
        ("colour.png", "not of 1 channels"),
        ("broken.tif", "damaged"),
    ):
        assert any(name in note and reason in note for note in notes), notes
    for name in ("a.png", "b.bmp"):
        (images / name).unlink()
    with pytest.raises(UsageError, match=r"no image that can be served.*several planes"):
        check_images(images, in_channels=1)


def test_images_with_a_file_for_each_channel_are_named(tmp_path: Path) -> None:
    for number in (0, 1):
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / f"c_000{number}.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "DAPI", "1": "GFP"}}))
    with pytest.raises(UsageError, match=r"several channels in files.*c_0000\.png"):
        check_images(tmp_path, in_channels=1)


def test_two_images_of_one_name_are_refused(images: Path) -> None:
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(images / "a.tif")
    with pytest.raises(UsageError, match="differ only in their ending"):
        check_images(images, in_channels=1)


def test_the_server_lists_all_formats_and_does_not_reload_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = server_environment(Path("app"))
    assert {"*.tiff", "*.bmp", "*.PNG"} <= set(json.loads(environment["MONAI_LABEL_DATASTORE_FILE_EXT"]))
    assert environment["MONAI_LABEL_RELOAD_APP_LIB"] == "false"
    assert environment["PYTHONPATH"] == "app"


def test_on_another_host_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        assert access_rules(host)["token"] is None
    tokens = {access_rules(host)["token"] for host in ("0.0.0.0", "192.168.0.7", "gpu-box", "", "::")}
    assert len(tokens) == 5
    assert all(len(token) >= 32 for token in tokens)
    assert access_rules("127.0.0.1", token=True)["token"]


@pytest.mark.parametrize("origin", ["*", "viewer.example", "https://viewer.example/page", "null", "file://x"])
def test_origins_are_addresses_of_pages(origin: str) -> None:
    with pytest.raises(UsageError, match="--allow_origin"):
        access_rules("127.0.0.1", origin)
    both = access_rules("127.0.0.1", ["https://viewer.example", "http://gpu-box:8000"])
    assert both["hosts"] == ["viewer.example", "gpu-box"]


def test_the_version_of_monai_label_and_what_is_known_of_it_are_said(hollow: Path) -> None:
    facts = hollow / "lib/python3.11/site-packages/monailabel-0.8.5.dist-info/METADATA"
    facts.parent.mkdir()
    facts.write_text("Metadata-Version: 2.1\nName: monailabel\nVersion: 0.8.5\n")
    assert monai_label_version(hollow / "bin" / "python") == "0.8.5"
    (note,) = version_notes("0.8.5", exposed=False)
    assert "0.8.5" in note
    assert "CVE-2026-133968" in note
    assert any("WARNING" in note for note in version_notes("0.8.7", exposed=True))
    assert version_notes("0.8.8", exposed=True) == version_notes("0.8.8", exposed=False) == ["MONAI Label 0.8.8"]
    assert "CVE" in version_notes("unknown", exposed=False)[0]


def test_options_of_requests_lie_within_the_ranges_of_the_settings() -> None:
    shown = yaml.safe_load((ROOT / "configs" / "inference.yaml").read_text())["displayable_configs"]
    assert set(shown) <= set(Options.model_fields)
    for model, names in ((Options, set(shown) - {"instances"}), (Train, {"max_epochs"})):
        for name in names:
            for limit in limits(model.model_fields[name]):
                assert SETTINGS[name].kind.convert(limit) == limit


def limits(field: FieldInfo) -> list[float]:
    """The choices of a field, or its least and largest value."""
    found = [getattr(rule, side) for rule in field.metadata for side in ("ge", "le") if hasattr(rule, side)]
    assert len(found) == 2 or get_args(field.annotation)
    return found or list(get_args(field.annotation))
