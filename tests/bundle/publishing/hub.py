"""A stand-in for the Hugging Face hub: answers its protocol on the loopback address and keeps the received files."""

from __future__ import annotations

import base64
import http.server
import json

REPOSITORY = "someone/original_unet_segmentation"


class Hub(http.server.ThreadingHTTPServer):
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
        elif what == "preupload/main":  # "regular": inside the commit, not in the storage for large files
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
