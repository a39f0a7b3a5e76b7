"""`monai.bundle.push_to_hf_hub` of the packed bundle, as far as it goes without the hub itself."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle.scripts import _add_model_card_metadata

from bundle.publishing.layout import NAME
from bundle.publishing.pack import write_package
from scripts.networks.unet import RonnebergerUNet
from tests.bundle.copies import copy_of_bundle, replace_in

REPOSITORY = "someone/original_unet_segmentation"
FEATURES = [1, 2, 3, 4, 5]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The folder that holds the unpacked bundle, of a small network."""
    source = copy_of_bundle(tmp_path / "source")
    for name in ("train", "inference"):
        path = source / "configs" / f"{name}.yaml"
        replace_in(path, '"@out_channels"\n', f'"@out_channels"\n  features: {FEATURES}\n')
    torch.save(RonnebergerUNet(features=FEATURES).state_dict(), tmp_path / "model.pt")
    with zipfile.ZipFile(write_package(source, tmp_path, tmp_path / "model.pt")) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def split_card(text: str) -> tuple[dict, str]:
    """What the hub reads of a card, and the rest."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_hub_s_card_is_ours_with_its_licence_recognised(unpacked: Path) -> None:
    card = (unpacked / NAME / "docs" / "README.md").read_text()
    (unpacked / NAME / "README.md").write_text(card)
    _add_model_card_metadata(str(unpacked / NAME / "README.md"))  # what push_to_hf_hub does before it uploads
    head, body = split_card((unpacked / NAME / "README.md").read_text())
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "monai"
    assert body.endswith(card)


class Hub(http.server.ThreadingHTTPServer):
    """Stands in for the hub: answers its protocol on the loopback address, keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.created: list[dict] = []
        self.tags: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        what = self.path.split("?")[0].removeprefix("/api/").replace(f"models/{REPOSITORY}/", "")
        if what == "repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.address}/{REPOSITORY}"})
        elif what == "validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif what == "preupload/main":  # "regular": inside the commit, none by way of large file storage
            asked = json.loads(body)["files"]
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]})
        elif what == "commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = "0" * 40
            url = f"{self.server.address}/{REPOSITORY}/commit/{commit}"
            self.answer({"success": True, "commitOid": commit, "commitUrl": url})
        elif what == "tag/main":
            self.server.tags.append(json.loads(body)["tag"])
            self.answer({})
        else:
            self.send_error(404, self.path)

    def answer(self, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("huggingface_hub"), reason="needs huggingface_hub: pip install huggingface_hub")
def test_pushing_uploads_every_file_of_the_bundle_and_its_card(unpacked: Path) -> None:
    packed = {p.relative_to(unpacked / NAME).as_posix(): p for p in (unpacked / NAME).rglob("*") if p.is_file()}
    contents = {name: path.read_bytes() for name, path in packed.items()}
    arguments = {"repo": REPOSITORY, "name": NAME, "bundle_dir": str(unpacked), "token": "hf_none", "version": "0.1.0"}
    code = f"import monai.bundle; monai.bundle.push_to_hf_hub(**{arguments})"
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        hub.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    [created] = hub.created
    assert "private" in (created.get("visibility"), *(key for key in created if created[key] is True)), (
        "older: a switch"
    )
    assert hub.tags == ["0.1.0"]
    head, body = split_card(hub.files.pop("README.md").decode())
    assert head["license"] == "apache-2.0"
    assert body.strip() == contents["docs/README.md"].decode().strip()
    assert hub.files == contents
