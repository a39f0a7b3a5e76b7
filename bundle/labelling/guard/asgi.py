"""Stand in front of MONAI Label's app: who may ask (host, origin, token), what (the table), and how much (bytes)."""

from __future__ import annotations

import hmac
import ipaddress
import json
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel

from .allowed import ENDPOINTS, LARGE, SMALL, Endpoint, check_content, check_files, check_keys, find_endpoint
from .keys import Refused, Served, parse_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
CHUNK = 2**20  # bytes


class Guard:
    """ASGI middleware: pass on the requests in the table of `allowed`, refuse the rest with a reason.

    Status 400: unknown endpoint, key or value, foreign name in `Host`, web page of a foreign origin. Status 401: no
    token. Status 413: body too large. The answer is JSON: {"detail": reason}.

    Args:
        app: MONAI Label's app.
        served: names of model, images and devices.
        hosts: names of this server, beside IP addresses and localhost. By DNS rebinding, a web page would reach the
            server under the name of the page.
        origins: web pages with access, such as https://viewer.example.
        token: required in each request; None: not required.
    """

    def __init__(
        self,
        app: App,
        served: Served,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        token: str | None = None,
    ) -> None:
        self.app, self.served, self.token = app, served, token
        self.origins = {origin.lower() for origin in origins}
        self.hosts = {"localhost", *map(str.lower, hosts)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._guarded(scope, receive, send)
            except Refused as refused:
                await _answer(send, refused.status, {"detail": str(refused)}, self._cors(scope))
        # web sockets: no answer, and the server closes them

    async def _guarded(self, scope: Message, receive: Receive, send: Send) -> None:
        self._check_host(scope)
        self._check_origin(scope)
        cors = self._cors(scope)
        method, path = scope["method"], self._strip_token(scope)
        if method == "OPTIONS":
            await _answer(send, 204, None, cors + _preflight(scope))
        elif path == "/auth/" and method == "GET":  # 3D Slicer and QuPath ask, and then show a form for the password
            await _answer(send, 200, {"enabled": self.token is not None, "client_id": "", "realm": ""}, cors)
        elif path == "/auth/token" and method == "POST":
            await _answer(send, 200, await self._log_in(scope, receive), cors)
        else:
            self._check_token(scope)
            if path == "/auth/token/valid" and method == "GET":
                await _answer(send, 200, {"username": "annotator"}, cors)
            elif path == "/" and method == "GET":
                await _answer(send, 200, overview(), cors)
            else:
                await self._pass_on(scope, receive, send, cors)

    def _check_host(self, scope: Message) -> None:
        """Refuse foreign names in `Host`, against DNS rebinding."""
        names = _all(scope, b"host")
        name = _host_of(f"//{names[0]}") if len(names) == 1 else None
        if name is None or not (name in self.hosts or _is_address(name)):
            raise Refused(
                f"Host is {', '.join(names)[:100] or 'missing'}, expected localhost, an IP address, or a name from "
                "--allow_origin"
            )

    def _check_origin(self, scope: Message) -> None:
        """Refuse web pages of foreign sites. Programs outside a browser send no `Origin`."""
        own = _all(scope, b"host")[0].lower()
        for origin in map(str.lower, _all(scope, b"origin")):
            if origin not in self.origins and origin not in (f"http://{own}", f"https://{own}"):
                raise Refused(f"Origin is {origin[:100]}, expected none, or one from --allow_origin")
        if not _all(scope, b"origin") and "cross-site" in _all(scope, b"sec-fetch-site"):
            raise Refused("a web page of a foreign site asks (Sec-Fetch-Site: cross-site) and sends no Origin")

    def _cors(self, scope: Message) -> list[tuple[bytes, bytes]]:
        """Headers for a page of an allowed origin, to read the answer."""
        origin = next(iter(_all(scope, b"origin")), "")
        if origin.lower() not in self.origins:
            return []
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]

    def _strip_token(self, scope: Message) -> str:
        """Return the path. CVAT's function has no place for a token but the address: http://host:8000/token/TOKEN."""
        path: str = scope["path"]
        prefix = f"/token/{self.token}/"
        if self.token and hmac.compare_digest(path[: len(prefix)].encode(), prefix.encode()):
            path = path[len(prefix) - 1 :]
            scope["path"], scope["raw_path"] = path, path.encode()
            scope["headers"].append((b"authorization", f"Bearer {self.token}".encode()))
        return path

    def _check_token(self, scope: Message) -> None:
        if self.token is None:
            return
        given = next(iter(_all(scope, b"authorization")), "").partition(" ")
        if given[0].lower() != "bearer" or not hmac.compare_digest(given[2].encode(), self.token.encode()):
            raise Refused(
                "no valid token. Send the token printed at the server's start: Authorization: Bearer TOKEN", 401
            )

    async def _log_in(self, scope: Message, receive: Receive) -> dict[str, str]:
        """Exchange the password for a token, as 3D Slicer and QuPath expect. The password is the token."""
        body = await _received(scope, receive, SMALL)
        given = dict(parse_qsl(b"".join(body).decode("utf-8", "replace"))).get("password", "")
        if self.token is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refused("wrong password. The password is the token printed at the server's start", 401)
        return {"access_token": self.token, "token_type": "Bearer"}

    async def _pass_on(self, scope: Message, receive: Receive, send: Send, cors: list[tuple[bytes, bytes]]) -> None:
        endpoint = find_endpoint(scope["method"], scope["path"], self.served.model)
        check_keys(endpoint.query, _query(scope["query_string"]), self.served, "query")
        body = await _received(scope, receive, endpoint.limit)
        if endpoint.body:
            check_keys(endpoint.body, _json(scope, b"".join(body)), self.served, "body")
        elif endpoint.form:
            await self._check_form(endpoint, endpoint.form, scope, body)
        # without the header, MONAI Label's own middleware allows no origin
        headers = [(key, value) for key, value in scope["headers"] if key != b"origin"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *cors]
            await send(message)

        await self.app({**scope, "headers": headers}, body.replay(receive), answer)

    async def _check_form(self, endpoint: Endpoint, fields: type[BaseModel], scope: Message, body: _Body) -> None:
        """Read the form with the parser of MONAI Label's server, and check its fields and files."""
        from starlette.datastructures import UploadFile  # in MONAI Label's environment alone
        from starlette.formparsers import MultiPartException
        from starlette.requests import Request

        async def rest() -> Message:  # never asked: the body is complete
            return {"type": "http.disconnect"}

        try:
            async with Request(scope, body.replay(rest)).form(max_files=4, max_fields=8) as form:
                items = form.multi_items()
                for file in (value for _, value in items if isinstance(value, UploadFile)):
                    check_content(file.filename or "", await file.read(CHUNK))
        except MultiPartException as error:
            raise Refused(f"form: {error.message}") from error
        files = [(key, value.filename or "") for key, value in items if isinstance(value, UploadFile)]
        texts = [(key, value) for key, value in items if isinstance(value, str)]
        if len(dict(texts)) < len(texts):
            raise Refused("form: a field twice")
        check_files(endpoint, files)
        check_keys(fields, dict(texts), self.served, "form")


class _Body:
    """A received body, on the disk if large."""

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(max_size=CHUNK)  # noqa: SIM115  # closed with the last reference

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(0)
        return iter(lambda: self.file.read(CHUNK), b"")

    def replay(self, receive: Receive) -> Receive:
        """Give the body again, then the messages of `receive`."""
        chunks, done = iter(self), False

        async def again() -> Message:
            nonlocal done
            if done:
                return await receive()
            chunk = next(chunks, b"")
            done = not chunk
            return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

        return again


async def _received(scope: Message, receive: Receive, limit: int) -> _Body:
    """Receive the whole body. Refuse more than `limit` bytes, by the header or while they arrive."""
    too_large = Refused(f"the body has more than {limit} bytes, the limit of this request", 413)
    length = next(iter(_all(scope, b"content-length")), "0")
    if not length.isdigit() or int(length) > limit:
        raise too_large
    body, size = _Body(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused("the connection ended within the body")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large
        body.file.write(chunk)
        if not message.get("more_body"):
            return body


def _json(scope: Message, body: bytes) -> Any:
    """Read the JSON of a request. QuPath sends no type: the type is set, since newer servers refuse the body."""
    kinds = _all(scope, b"content-type")
    if not body:
        return {}
    if not kinds:
        scope["headers"].append((b"content-type", b"application/json"))
    elif len(kinds) > 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
        raise Refused(f"Content-Type is {', '.join(kinds)[:100]}, expected application/json")
    return parse_json(body)


def _query(query: bytes) -> dict[str, str]:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if len(dict(pairs)) < len(pairs):
        raise Refused("query: a key twice")
    return dict(pairs)


def _preflight(scope: Message) -> list[tuple[bytes, bytes]]:
    if not _all(scope, b"origin"):
        raise Refused("OPTIONS is served to web pages of --allow_origin alone")
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
        (b"access-control-allow-headers", b"authorization, content-type"),
    ]


def overview() -> str:
    """List the served requests, one a line.

    Example:
        >>> print(overview().splitlines()[2])
        GET /info/
    """
    lines = ["MONAI Label, behind the checks of original-unet. Served requests:", ""]
    for endpoint in ENDPOINTS:
        keys = [*endpoint.query.model_fields]
        lines.append(f"{' '.join(endpoint.methods)} {endpoint.path}" + (f"?{'&'.join(keys)}" if keys else ""))
        for kind, model in (("JSON", endpoint.body), ("form", endpoint.form)):
            if model:
                lines.append(f"    {kind}: {', '.join([*model.model_fields, *endpoint.files])}")
    return "\n".join([*lines, "", f"Bodies: at most {SMALL} bytes, with a file {LARGE}.", ""])


def _all(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _answer(send: Send, status: int, content: Any, headers: list[tuple[bytes, bytes]]) -> None:
    text = isinstance(content, str)
    body = b"" if content is None else content.encode() if text else json.dumps(content).encode()
    kind = b"text/plain; charset=utf-8" if text else b"application/json"
    fixed = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})
