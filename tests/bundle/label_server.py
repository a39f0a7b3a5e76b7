"""Start the real MONAI Label server by `python -m bundle label` for a test, and call the REST API."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.labelling.label import environment_python

ROOT = Path(__file__).resolve().parents[2]
NAME = "original_unet_segmentation"
SECONDS_TO_START = 240


@dataclass
class Server:
    """A running server, with paths."""

    url: str
    studies: Path
    app: Path
    log: Path
    token: str | None = None

    @property
    def labels(self) -> Path:
        return self.studies.with_name(f"{self.studies.name}_labels")

    @property
    def bundle(self) -> Path:
        return self.app / "monaibundle" / "model" / NAME

    @property
    def weights(self) -> Path:
        return self.bundle / "models" / "model.pt"

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        """Call the server. AssertionError with answer and log unless the status is 2xx."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}\n{tail}") from error

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request as given, with these headers alone. Return status, headers and body of the answer."""
        address = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        given = {"Host": address.netloc, **(headers or {})}
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if isinstance(body, bytes) and "Content-Length" not in given:
                given["Content-Length"] = str(len(body))
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body, encode_chunked=body is not None and not isinstance(body, bytes))
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        return json.loads(self.call("GET", path))

    def post(self, path: str, **body: Any) -> Any:
        return json.loads(self.call("POST", path, json.dumps(body).encode(), "application/json"))

    def send(self, method: str, path: str, fields: Mapping[str, str], files: Mapping[str, Path]) -> bytes:
        """Send a form with files."""
        body, kind = form(fields, [(key, file.name, file.read_bytes()) for key, file in files.items()])
        return self.call(method, path, body, kind)

    def infer(self, image: str, file: Path | None = None, output: str = "image", **params: Any) -> bytes:
        """Segment an image, by its name in the studies, or a file; gives the label image."""
        query = urllib.parse.urlencode({"output": output, **({} if file else {"image": image})})
        files = {"file": file} if file else {}
        return self.send("POST", f"/infer/{NAME}?{query}", {"params": json.dumps(params)}, files)

    def put_label(self, image: str, file: Path) -> None:
        self.send("PUT", f"/datastore/label?image={image}", {"params": "{}"}, {"label": file})


def form(fields: Mapping[str, str], files: Sequence[tuple[str, str, bytes]]) -> tuple[bytes, str]:
    """Write a form: fields, and files as (field, name, content). Return body and type."""
    mark = uuid.uuid4().hex
    parts = [(f'name="{key}"', value.encode()) for key, value in fields.items()]
    parts += [(f'name="{key}"; filename="{name}"', content) for key, name, content in files]
    body = b"".join(
        f"--{mark}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return body + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


CVAT = """
import base64, sys
from argparse import Namespace
from logging import getLogger
import detector
context = Namespace(logger=getLogger(), user_data=Namespace(), Response=lambda body, **_: body)
detector.init_context(context)
image = base64.b64encode(open(sys.argv[1], "rb").read())
print(detector.handler(context, Namespace(body={"image": image})))
"""


def cvat_polygons(url: str, image: Path) -> list[dict[str, Any]]:
    """Ask a server by MONAI Label's plugin for CVAT, started in the same way as by CVAT's serverless functions."""
    python = environment_python()
    plugin = python.parents[1] / "monailabel" / "plugins" / "cvat"
    settings = {"PYTHONPATH": str(plugin), "MONAI_LABEL_SERVER": url, "MONAI_LABEL_MODEL": NAME}
    command = [str(python), "-c", CVAT, str(image)]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    polygons: list[dict[str, Any]] = json.loads(done.stdout)
    return polygons


@contextmanager
def serving(studies: Path, app: Path, *words: str, token: bool = False, **environment: str) -> Iterator[Server]:
    """Start the server by the command of the guide. Afterwards end the server and all its child processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = app.parent / "server.log"
    command = [sys.executable, "-m", "bundle", "label", str(studies), "--app", str(app), "--port", str(port), *words]
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
    server = Server(f"http://127.0.0.1:{port}", studies, app, log)
    try:
        _wait(server, process, token)
        yield server
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):  # the whole session: a training in the background, too
            try:
                os.killpg(process.pid, sign)
                process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _wait(server: Server, process: subprocess.Popen, token: bool) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        printed = re.search(r"^token: (\S+)", server.log.read_text(errors="replace"), re.MULTILINE) if token else None
        server.token = printed[1] if printed else None
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{server.log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"{server.url}/auth/", timeout=60):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer within {SECONDS_TO_START} s:\n{server.log.read_text()[-3000:]}")
