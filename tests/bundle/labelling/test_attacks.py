"""Requests of strangers to the real MONAI Label server: refused, and nothing is read, written, deleted or run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.labelling.label import ENVIRONMENT, environment_python
from bundle.running.errors import UsageError
from scripts.handlers.checkpoints import save_weights
from scripts.networks.unet import RonnebergerUNet
from tests.bundle.label_server import NAME, Server, cvat_polygons, form, serving
from tests.bundle.labelling import FEATURES

pytestmark = pytest.mark.slow

PNG = "application/octet-stream"
JSON = "application/json"
PAGE = "https://viewer.example"  # allowed in these tests


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        environment_python()
    except UsageError as error:
        pytest.skip(f"{ENVIRONMENT}: {error}")
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "studies").mkdir()
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(draw.integers(0, 255, (64, 80), np.uint8)).save(folder / "studies" / f"{name}.png")
    save_weights(RonnebergerUNet(features=FEATURES), folder / "weights.pt")
    words = [
        "--weights",
        str(folder / "weights.pt"),
        "--allow_origin",
        PAGE,
        "--input_size",
        "188",
        "--num_workers",
        "0",
    ]
    with serving(folder / "studies", folder / "app", *words) as running:
        yield running


@pytest.fixture(autouse=True)
def unchanged(server: Server) -> Iterator[None]:
    """The user's folder is the same after each test: names, content and times."""
    before = snapshot(server.studies)
    yield
    assert snapshot(server.studies) == before


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refused(
    server: Server, method: str, path: str, body: bytes | None = None, kind: str = "", status: int = 400
) -> str:
    """Send a request that must be refused. Return the reason."""
    got, _, content = server.ask(method, path, body, {"Content-Type": kind} if kind else {})
    assert got == status, content[:500]
    return str(json.loads(content)["detail"])


def refused_json(server: Server, path: str, **keys: object) -> str:
    return refused(server, "POST", path, json.dumps(keys).encode(), JSON)


def refused_infer(server: Server, query: str = "image=a", **params: object) -> str:
    body, kind = form({"params": json.dumps(params)}, [])
    return refused(server, "POST", f"/infer/{NAME}?{query}", body, kind)


def refused_file(server: Server, path: str, key: str, name: str, content: bytes) -> str:
    body, kind = form({"params": "{}"}, [(key, name, content)])
    return refused(server, "PUT", path, body, kind)


def png(value: int = 7) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((64, 80), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


# ---------------------------------------------------------------- the seven attacks


def test_an_uploaded_configuration_does_not_run(server: Server, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    call = f"$__import__('pathlib').Path('{touched}').touch()"
    handlers = {"trainer": {"id": "train#trainer", "handlers": "train#handlers"}}
    program = json.dumps({"handlers_id": handlers, "configs": {"trainer": call}})
    refused_file(server, "/datastore/?image=evil", "file", "evil.yaml", program.encode())
    place = tmp_path / "evil.yaml"
    place.write_text(program)
    assert "tracking" in refused_json(server, f"/train/{NAME}?run_sync=true", tracking=str(place), max_epochs=1)
    assert not touched.exists()
    assert not list(server.studies.glob("evil*"))


@pytest.mark.parametrize("key", ["threshold", "device", "min_area", "model_filename", "logging", "run_id"])
def test_no_key_takes_a_program_or_a_component(key: str, server: Server, tmp_path: Path) -> None:
    """MONAI Label writes options of a request into a configuration, and MONAI evaluates the configuration."""
    touched = tmp_path / "touched"
    for value in (
        f"$__import__('pathlib').Path('{touched}').touch()",
        {"_target_": "pathlib.Path.touch", "self": str(touched)},
        "@threshold",
        "%../configs/train.yaml",
    ):
        assert key in refused_infer(server, **{key: value})
        assert key in refused_json(server, f"/train/{NAME}", **{key: value})
        assert key in refused_json(server, f"/batch/infer/{NAME}", **{key: value})
        assert key in refused_json(server, f"/scoring/{NAME}", **{key: value})
        assert key in refused_json(server, "/activelearning/first", **{key: value})
        assert key in refused_json(server, f"/infer/wsi/{NAME}?image=a", params={key: value})
    assert not touched.exists()


def test_files_are_not_written_at_any_path(server: Server, tmp_path: Path) -> None:
    refused_file(server, f"/datastore/image?image={quote(str(tmp_path / 'written'), safe='')}", "file", "x.png", png())
    for tag in ("../../outside", str(tmp_path / "outside"), "final/../.."):
        assert "tag" in refused_file(
            server, f"/datastore/label?image=a&tag={quote(tag, safe='')}", "label", "x.png", png()
        )
    for image in ("../a", str(server.studies / "a"), ".", "c", ""):
        reason = refused_file(server, f"/datastore/label?image={quote(image, safe='')}", "label", "x.png", png())
        assert "image" in reason
    assert not list(tmp_path.iterdir())
    assert not list(server.studies.parent.glob("**/outside*"))


def test_archives_are_not_unpacked(server: Server, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(f"../../../../../../../../../{tmp_path}/member.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    for query in ("?uncompress=true", "?uncompress=1", ""):
        body, kind = form({}, [("files", "images.tar", archive.getvalue())])
        refused(server, "PUT", f"/session/{query}", body, kind)
    assert not list(tmp_path.iterdir())


def test_originals_are_neither_overwritten_nor_deleted(server: Server) -> None:
    for path in ("/datastore/image?image=a", "/datastore/?image=a"):
        refused_file(server, path, "file", "a.png", png())
    for path in ("/datastore/image?id=a", "/datastore/?id=a", "/datastore/label?id=a&tag=final"):
        refused(server, "DELETE", path)
    assert server.ask("GET", "/datastore/image?image=a")[2] == (server.studies / "a.png").read_bytes()


def test_other_images_on_the_disk_are_not_read(server: Server, tmp_path: Path) -> None:
    private = tmp_path / "private.png"
    private.write_bytes(png())
    for image in (str(private), f"../{private.name}", "file://" + str(private), "a.png", "labels"):
        assert "image" in refused_infer(server, f"image={quote(image, safe='')}")
        assert "image" in refused(server, "GET", f"/datastore/image?image={quote(image, safe='')}")
        refused(server, "POST", f"/infer/wsi/{NAME}?image={quote(image, safe='')}")
        assert "image" in refused_infer(server, image=image)
        assert "image" in refused_json(server, f"/infer/wsi/{NAME}?image=a", params={"image": image})
        assert "images" in refused_json(server, f"/batch/infer/{NAME}", images=[image])
    for session in ("..", "../..", f"..%2F..%2F{tmp_path.name}", "x"):
        refused(server, "GET", f"/session/{session}?image=true")
        refused(server, "DELETE", f"/session/{session}")
        refused_infer(server, f"session_id={session}")
    assert private.exists()


def test_files_that_name_other_files_are_not_followed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "private.raw").write_bytes(bytes(range(64)) * 64)
    place = str(tmp_path / "private.raw")
    nrrd = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 64 64\nencoding: raw\n{}: {}\n\n"
    mha = "ObjectType = Image\nNDims = 2\nDimSize = 64 64\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    for name, header in (
        ("x.nrrd", nrrd.format("data file", place)),
        ("x.NRRD", nrrd.format("Datafile", place)),
        ("x.nrrd", nrrd.format("data file", place).replace("\n", "\r\n")),
        ("x.mha", mha.format(place)),
        ("x.mha", mha.format("LIST")),
        ("x.mha", mha.replace(" = {}", " : {}").format(place) + "ElementDataFile = LOCAL\n"),
    ):
        for path, key in ((f"/infer/{NAME}", "file"), ("/datastore/label?image=a", "label"), ("/session/", "files")):
            body, kind = form({}, [(key, name, header.encode())])
            assert "header" in refused(server, "POST" if key == "file" else "PUT", path, body, kind)


@pytest.mark.parametrize("way", ["absolute", "relative"])
def test_the_planes_of_an_ome_tiff_are_not_read_from_other_folders(way: str, server: Server, tmp_path: Path) -> None:
    """OME-XML may name the files of further planes."""
    private = tmp_path / "private.ome.tif"
    named = str(private) if way == "absolute" else os.path.relpath(private, server.app / "monaibundle" / "tmp")
    write_ome(private, private.name, np.full((64, 80), 77, np.uint8))
    write_ome(tmp_path / "x.ome.tif", named, np.full((64, 80), 5, np.uint8))
    body, kind = form({"params": "{}"}, [("file", "x.ome.tif", (tmp_path / "x.ome.tif").read_bytes())])
    status, _, content = server.ask("POST", f"/infer/{NAME}?output=image", body, {"Content-Type": kind})
    assert status == 500, content[:500]
    assert b"private" not in content
    end = time.monotonic() + 20
    while f"{named!r} outside of its folder" not in server.log.read_text():  # the log may follow the answer
        assert time.monotonic() < end, server.log.read_text()[-3000:]
        time.sleep(0.1)


def write_ome(path: Path, named: str, pixels: np.ndarray) -> None:
    """Write an OME-TIFF whose plane is in another file."""
    height, width = pixels.shape
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeZ="1" '
        'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1">'
        f'<UUID FileName="{named}">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, pixels, description=text, metadata=None)


def test_no_option_hangs_the_server(server: Server) -> None:
    start = time.monotonic()
    for option, value in {
        "close_gaps": 100_000,
        "split_necks": 1e9,
        "orientations": 1000,
        "min_area": -1,
        "fill_holes": 10**12,
        "threshold": float("nan"),
        "instances": "yes",
    }.items():
        assert option in refused_infer(server, **{option: value})
        assert option in refused_json(server, f"/infer/wsi/{NAME}?image=a", params={option: value})
    assert "simulation_size" in refused_json(server, f"/scoring/{NAME}", simulation_size=10**9)
    for epochs in (0, 10**9, 1.5, "3", True):
        assert "max_epochs" in refused_json(server, f"/train/{NAME}", max_epochs=epochs)
    for share in (-1, 1, 1e9, float("inf")):
        assert "val_split" in refused_json(server, f"/train/{NAME}", val_split=share)
    assert time.monotonic() - start < 60
    assert server.get("/info/")["datastore"]["total"] == 2


def test_a_foreign_page_gets_no_leave_from_a_preflight(server: Server) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"{PAGE}.evil.example"):
        for method, path in (("POST", f"/train/{NAME}"), ("PUT", "/datastore/label?image=a"), ("GET", "/info/")):
            asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
            status, headers, _ = server.ask("OPTIONS", path, headers={"Origin": origin, **asked})
            assert status == 400
            assert not [name for name in headers if name.startswith("access-control")]
            status, headers, _ = server.ask(method, path, headers={"Origin": origin})
            assert status == 400  # a simple request needs no preflight
            assert not [name for name in headers if name.startswith("access-control")]
    assert server.ask("GET", "/datastore/image?image=a", headers={"Sec-Fetch-Site": "cross-site"})[0] == 400


def test_an_allowed_page_works_as_in_a_browser(server: Server) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    status, headers, _ = server.ask("OPTIONS", "/activelearning/first", headers={"Origin": PAGE, **asked})
    assert status == 204
    assert headers["access-control-allow-origin"] == PAGE
    assert "POST" in headers["access-control-allow-methods"]
    assert "content-type" in headers["access-control-allow-headers"]
    sent = {"Origin": PAGE, "Content-Type": JSON}
    status, headers, content = server.ask("POST", "/activelearning/first", b"{}", sent)
    assert (status, json.loads(content)["id"]) == (200, "a")
    assert headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in headers
    assert server.ask("GET", "/info/", headers={"Origin": server.url})[0] == 200  # a page of the server itself


def test_a_page_cannot_reach_the_server_under_its_own_name(server: Server) -> None:
    """DNS rebinding: the name evil.example leads to 127.0.0.1, so that the browser sees one origin."""
    port = urlsplit(server.url).port
    for host in (f"evil.example:{port}", "evil.example", f"localhost.evil.example:{port}", None):
        for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
            assert server.ask("GET", "/info/", headers=headers)[0] == 400
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "viewer.example"):
        assert server.ask("GET", "/info/", headers={"Host": host})[0] == 200


# ---------------------------------------------------------------- other members of the kinds


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", f"/model/{NAME}"),
        ("PUT", f"/model/{NAME}"),
        ("DELETE", f"/model/{NAME}"),
        ("GET", "/logs/"),
        ("GET", "/logs/gpu"),
        ("POST", "/reload"),
        ("GET", "/proxy/dicom/wado/x"),
        ("GET", "/ohif/x"),
        ("GET", "/static/ohif/index.html"),
        ("GET", "/datastore/dataset"),
        ("PUT", "/datastore/image/info?image=a"),
        ("PUT", "/datastore/label/info?label=a&tag=final"),
        ("PUT", "/datastore/updatelabelinfo?label=a&tag=final"),
        ("POST", "/train/"),
        ("POST", "/train/other"),
        ("POST", "/scoring/"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("TRACE", "/info/"),
        ("GET", "//info/"),
        ("GET", "/info/../logs/"),
        ("GET", "/info/?x=1"),
        ("GET", "/train/?all=true&all=false"),
    ],
)
def test_what_the_guide_does_not_use_is_not_served(method: str, path: str, server: Server) -> None:
    assert refused(server, method, path)


def test_keys_are_checked_wherever_a_form_or_json_holds_them(server: Server) -> None:
    assert "Content-Type" in refused(server, "POST", f"/train/{NAME}", b"{}", "text/plain")
    assert "twice" in refused(server, "POST", f"/train/{NAME}", b'{"max_epochs": 1, "max_epochs": 2}', JSON)
    for body in (b"[" * 100_000, b"{", b"\xff", b"[]", b"3", b'{"max_epochs": ' + b"9" * 5000 + b"}"):
        assert refused(server, "POST", f"/train/{NAME}", body, JSON)
    body, kind = form({"params": "{}"}, [("file", "x.png", png()), ("file", "y.png", png())])
    assert "two files" in refused(server, "POST", f"/infer/{NAME}", body, kind)
    body, kind = form({"params": "{}", "file": "/etc/passwd"}, [])
    assert "file" in refused(server, "POST", f"/infer/{NAME}", body, kind)
    for name in ("x.jpg", "x.yaml", "x.png\\", "x.png/../../y"):
        assert "must end in" in refused_file(server, "/datastore/label?image=a", "label", name, png())
    assert "label_info" in refused_form(server, label_info=[{"name": "x" * 1000}])
    assert refused_form(server, anything=1)


def refused_form(server: Server, **params: object) -> str:
    body, kind = form({"params": json.dumps(params)}, [("label", "x.png", png())])
    return refused(server, "PUT", "/datastore/label?image=a", body, kind)


def test_bodies_are_limited_by_their_header_and_while_they_arrive(server: Server) -> None:
    large = b" " * 2_000_000
    assert refused(server, "POST", f"/train/{NAME}", large, JSON, status=413)
    chunks = iter([b" " * 500_000] * 4)
    sent = {"Content-Type": JSON, "Transfer-Encoding": "chunked"}
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server closes it while the body arrives
        assert server.ask("POST", f"/train/{NAME}", chunks, sent)[0] == 413
    kind = "multipart/form-data; boundary=x"
    claimed = {"Content-Type": kind, "Content-Length": str(2**40)}
    assert server.ask("POST", f"/infer/{NAME}", None, claimed)[0] == 413
    assert refused(server, "GET", "/info/", b"x", status=413)
    assert server.get("/info/")["datastore"]["total"] == 2


def test_the_first_page_lists_the_requests(server: Server) -> None:
    status, headers, content = server.ask("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert b"/infer/{model}" in content


def test_a_web_socket_is_closed(server: Server) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "x" * 24,
        "Sec-WebSocket-Version": "13",
    }
    assert server.ask("GET", "/", headers=upgrade)[0] != 101


# ---------------------------------------------------------------- a server for other machines


@pytest.fixture(scope="module")
def shared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on all addresses, which asks for a token."""
    folder = tmp_path_factory.mktemp("shared")
    words = ["--host", "0.0.0.0", "--labels", str(folder / "labels"), "--weights", str(server.weights)]
    with serving(server.studies, folder / "app", *words, token=True) as running:
        yield running


def test_other_machines_need_the_token_and_are_warned_of(shared: Server) -> None:
    log = shared.log.read_text()
    assert "CVE-2026-133968" in log
    assert "WARNING" in log
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {shared.token}"},
        {"Authorization": "Bearer "},
    ):
        for path in ("/info/", "/", "/datastore/image?image=a", "/auth/token/valid"):
            status, _, content = shared.ask("GET", path, headers=headers)
            assert (status, "token" in json.loads(content)["detail"]) == (401, True)
    assert shared.ask("GET", "/info/", headers={"Authorization": f"Bearer {shared.token}"})[0] == 200
    own = {"Host": f"{socket.gethostname()}:1", "Authorization": f"bearer {shared.token}"}
    assert shared.ask("GET", "/info/", headers=own)[0] == 200
    assert shared.ask("GET", "/info/", headers={**own, "Host": "evil.example"})[0] == 400
    assert (shared.app / "monaibundle" / "guard.json").stat().st_mode & 0o077 == 0


def test_3d_slicer_and_qupath_log_in_with_the_token_as_password(shared: Server) -> None:
    """Both ask /auth/, show a form for name and password, and exchange them for a token."""
    assert json.loads(shared.ask("GET", "/auth/")[2])["enabled"] is True
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert shared.ask("POST", "/auth/token", b"username=me&password=wrong&grant_type=password", kind)[0] == 401
    body = f"username=me&password={shared.token}&grant_type=password".encode()
    token = json.loads(shared.ask("POST", "/auth/token", body, kind)[2])
    sent = {"Authorization": f"{token['token_type']} {token['access_token']}"}
    assert shared.ask("GET", "/auth/token/valid", headers=sent)[0] == 200
    assert shared.ask("GET", "/info/", headers=sent)[0] == 200


def test_a_program_without_a_place_for_a_token_puts_it_into_the_address(shared: Server) -> None:
    assert shared.ask("GET", f"/token/{shared.token}/info/")[0] == 200
    assert isinstance(cvat_polygons(f"{shared.url}/token/{shared.token}", shared.studies / "a.png"), list)
    for path in ("/token/x/info/", f"/token/{shared.token}x/info/", f"/token/{shared.token}", "/token//info/"):
        assert shared.ask("GET", path)[0] == 401
    assert shared.ask("GET", f"/token/{shared.token}/logs/")[0] == 400


def test_on_this_machine_no_token_is_asked(server: Server) -> None:
    assert json.loads(server.ask("GET", "/auth/")[2])["enabled"] is False
    assert server.token is None
    listening = (
        [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if os.path.exists("/proc")
        else []
    )
    port = f"{urlsplit(server.url).port:04X}"
    assert {line.split(":")[0] for line in listening if line.endswith(port)} <= {"0100007F"}
