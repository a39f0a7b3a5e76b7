"""The real MONAI Label server with the bundle: its answers equal the files of the bundle's own inference."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from scipy.ndimage import binary_fill_holes

from bundle.datasets.synthetic_em import synthetic_section
from bundle.labelling.label import ENVIRONMENT, environment_python
from bundle.running.errors import UsageError
from scripts.handlers.checkpoints import save_weights
from scripts.inferers.overlap_tile import OverlapTileInferer
from scripts.io.reader import PlaneReader
from scripts.networks.unet import RonnebergerUNet
from tests.bundle.label_server import NAME, ROOT, Server, cvat_polygons, serving
from tests.bundle.labelling import FEATURES

pytestmark = pytest.mark.slow

CONFIGS = ROOT / "configs"
SIZES = {"a.png": (96, 80), "b.tif": (70, 110), "c.bmp": (64, 90), "d.tiff": (80, 64), "e.jpg": (64, 72)}
TRAINING = ["--input_size", "188", "--num_workers", "0", "--learning_rate", "0.1"]
TRAINING += ["--validate_first", "false"]  # an epoch of this network may find no better weights, and keep the old ones

Own = Callable[..., dict[str, np.ndarray]]


def write(path: Path, pixels: np.ndarray) -> None:
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


def read(content: bytes) -> np.ndarray:
    """Read PNG and BMP by Pillow, TIFF by tifffile. The server writes with other libraries."""
    return (
        tifffile.imread(io.BytesIO(content))
        if content[:2] in (b"II", b"MM")
        else np.asarray(Image.open(io.BytesIO(content)))
    )


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Oblong synthetic sections in five formats. A bright corner makes every flip and turn visible."""
    folder = tmp_path_factory.mktemp("label") / "studies"
    folder.mkdir()
    made = {}
    for number, (name, size) in enumerate(SIZES.items()):
        image, cells = synthetic_section(np.random.default_rng(number), size)
        image[:20, :30] = 255
        write(folder / name, image)
        made[name] = folder / name, cells
    return made


@pytest.fixture(scope="module")
def weights(sections: dict[str, tuple[Path, np.ndarray]]) -> Path:
    """Random weights of a small network, with a bias for which half of an image is cell."""
    torch.manual_seed(4)
    network = RonnebergerUNet(features=FEATURES).eval()
    image = torch.from_numpy(np.array(Image.open(sections["a.png"][0]), np.float32))
    with torch.no_grad():
        scores = OverlapTileInferer()(((image - image.mean()) / image.std())[None, None], network)
        network.scores.bias[0] += (scores[:, 1] - scores[:, 0]).median()
    path = sections["a.png"][0].parents[1] / "weights.pt"
    save_weights(network, path)
    return path


@pytest.fixture(scope="module")
def server(sections: dict[str, tuple[Path, np.ndarray]], weights: Path) -> Iterator[Server]:
    try:
        environment_python()
    except UsageError as error:
        pytest.skip(f"{ENVIRONMENT}: {error}")
    words = ["--weights", str(weights), *TRAINING]
    # score only on request: automatic scoring would start a process after every call
    studies = weights.parent / "studies"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in studies.iterdir()}
    with serving(
        studies,
        weights.parent / "app",
        *words,
        "--epistemic_dropout",
        "0.5",
        MONAI_LABEL_AUTO_UPDATE_SCORING="false",
    ) as running:
        yield running
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in studies.iterdir()} == before


@pytest.fixture
def own(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Results of the bundle's own inference on the studies, with the served weights."""
    monkeypatch.chdir(ROOT)

    def run(kind: str = "classes", **overrides: object) -> dict[str, np.ndarray]:
        out = tmp_path / f"own{len(list(tmp_path.iterdir()))}"
        workflow = ConfigWorkflow(
            config_file=str(CONFIGS / "inference.yaml"),
            meta_file=str(CONFIGS / "metadata.json"),
            logging_file=str(CONFIGS / "logging.conf"),
            workflow_type="infer",
            dataset_dir=str(server.studies),
            output_dir=str(out),
            **{"ckpt_path": str(server.weights), "device": "cpu", "dataloader#num_workers": 0, **overrides},
        )
        workflow.initialize()
        workflow.run()
        return {path.name.split(".")[0]: read(path.read_bytes()) for path in (out / kind).iterdir()}

    return run


def test_info_names_the_model_its_label_its_options_and_the_strategies(server: Server) -> None:
    info = server.get("/info/")
    model = info["models"][NAME]
    assert (model["type"], model["dimension"], model["labels"]) == ("segmentation", 2, {"cell": 1})
    options = {"instances": False, "orientations": 1, "threshold": 0.5, "min_area": 0}
    assert {key: model["config"][key] for key in options} == options
    assert model["config"]["model_filename"] == ["model.pt"]
    assert set(info["trainers"]) == {NAME}
    assert set(info["strategies"]) == {"first", "random", "epistemic"}
    assert set(info["scoring"]) == {NAME}
    assert info["datastore"]["total"] == len(SIZES)


def test_the_label_of_an_image_is_the_bundle_s_own_pixel_by_pixel(server: Server, own: Own) -> None:
    expected = own()
    for file, size in SIZES.items():
        name = file.split(".")[0]
        label = read(server.infer(name))
        assert label.shape == size
        assert label.dtype == np.uint8
        assert np.array_equal(label, expected[name])
        assert set(np.unique(label)) == {0, 1}
        assert not np.array_equal(label, label[::-1])
        assert not np.array_equal(label, label[:, ::-1])


def test_an_image_that_is_sent_along_gives_the_same(server: Server, sections: dict, tmp_path: Path) -> None:
    sent = tmp_path / "elsewhere.png"
    sent.write_bytes(sections["a.png"][0].read_bytes())
    assert server.infer("", sent) == server.infer("a")


def test_what_a_client_sets_changes_the_label_for_that_request_alone(server: Server, own: Own) -> None:
    plain = read(server.infer("b"))
    averaged = read(server.infer("b", orientations=8))
    cleaned = read(server.infer("b", min_area=40))
    careful = read(server.infer("b", threshold=0.55))
    assert np.array_equal(averaged, own(orientations=8)["b"])
    assert np.array_equal(cleaned, own("instances", min_area=40)["b"] > 0)
    assert np.array_equal(careful, own("instances", threshold=0.55)["b"] > 0)
    sums = [int(label.sum()) for label in (plain, averaged, cleaned, careful)]
    assert len(set(sums)) == 4
    assert np.array_equal(read(server.infer("b")), plain)


def test_objects_are_numbered_on_request(server: Server, own: Own) -> None:
    label = read(server.infer("a", instances=True, min_area=3))
    assert np.array_equal(label, own("instances", min_area=3)["a"])
    assert json.loads(server.infer("a", output="json", min_area=3))["objects"] == label.max() > 1


def test_a_label_for_3d_slicer_lies_as_the_image_does(server: Server, tmp_path: Path) -> None:
    """Slicer's module asks for .nrrd of 8 bit, and reads label and image by ITK."""
    (tmp_path / "label.nrrd").write_bytes(server.infer("b", result_extension=".nrrd", result_dtype="uint8"))
    label = itk.array_from_image(itk.imread(str(tmp_path / "label.nrrd")))
    assert label.dtype == np.uint8
    assert np.array_equal(label, read(server.infer("b")))


def annotations(server: Server, image: str, min_area: int) -> bytes:
    """Annotations as XML, with the request of QuPath's extension: JSON without a Content-Type."""
    params = {"foreground": [], "background": [], "max_workers": 1, "min_area": min_area}
    request = {"level": 0, "location": [0, 0], "size": [0, 0], "tile_size": [1024, 1024], "min_poly_area": 10}
    body = json.dumps({**request, "params": params}).encode()
    status, _, content = server.ask("POST", f"/infer/wsi/{NAME}?output=asap&image={image}", body)
    assert status == 200, content
    return content


def test_qupath_sends_an_image_that_the_server_does_not_have(server: Server, sections: dict) -> None:
    assert server.ask("HEAD", "/datastore/image?image=elsewhere")[0] == 400  # not 200: QuPath then sends the image
    assert server.ask("HEAD", "/datastore/image?image=a")[0] == 200
    wsi = {"wsi": json.dumps({"location": [0, 0], "size": [0, 0], "min_poly_area": 10, "params": {"min_area": 10}})}
    sent = server.send("POST", f"/infer/wsi_v2/{NAME}?output=asap", wsi, {"file": sections["a.png"][0]})
    polygons = [list(ElementTree.fromstring(xml).iter("Annotation")) for xml in (sent, annotations(server, "a", 10))]
    assert len(polygons[0]) == len(polygons[1]) > 0
    shown = b'{"image": "", "patch_size": [1024, 1024],"image_size": [0, 0]}'
    assert json.loads(server.ask("POST", "/activelearning/random", shown)[2])["id"] in {"a", "b", "c", "d", "e"}


def test_an_image_stays_for_a_session(server: Server, sections: dict) -> None:
    made = json.loads(server.send("PUT", "/session/?expiry=60", {"client_id": "me"}, {"files": sections["a.png"][0]}))
    session = made["session_id"]
    assert server.send("POST", f"/infer/{NAME}?image=&session_id={session}&output=image", {}, {}) == server.infer("a")
    assert Path(made["session_info"]["path"]).is_relative_to(server.app)
    server.call("DELETE", f"/session/{session}")
    assert server.ask("GET", f"/session/{session}")[0] == 404


@pytest.mark.parametrize("name", ["a", "b"])  # a TIFF, too
def test_annotations_for_qupath_are_a_polygon_around_every_object(name: str, server: Server, own: Own) -> None:
    polygons = []
    for annotation in ElementTree.fromstring(annotations(server, name, min_area=10)).iter("Annotation"):
        assert annotation.get("Name") == "cell"
        points = [(float(point.get("X", "")), float(point.get("Y", ""))) for point in annotation.iter("Coordinate")]
        polygons.append(np.array(points))
    objects = own("instances", min_area=10)[name]
    assert len(polygons) == objects.max()
    for number, polygon in enumerate(polygons, start=1):
        rows, columns = np.nonzero(objects == number)
        assert polygon.min(axis=0).tolist() == [columns.min(), rows.min()]
        assert polygon.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]


def test_the_detector_of_cvat_gets_polygons(server: Server, sections: dict) -> None:
    found = cvat_polygons(server.url, sections["a.png"][0])
    height, width = SIZES["a.png"]
    assert found
    for polygon in found:
        assert (polygon["label"], polygon["type"]) == ("cell", "polygon")
        assert min(polygon["points"]) >= 0
        assert max(polygon["points"][::2]) <= width
        assert max(polygon["points"][1::2]) <= height


def test_the_strategies_name_an_image_and_scoring_finds_the_least_certain(server: Server) -> None:
    names = {name.split(".")[0] for name in SIZES}
    assert server.post("/activelearning/first")["id"] in names
    assert server.post("/activelearning/random")["id"] in names
    done = server.post(f"/scoring/{NAME}?run_sync=true", simulation_size=3)
    assert (done["executed"], done["skipped"]) == (len(SIZES), 0)
    objects = server.get("/datastore/?output=all")["objects"]
    scores = {name: item["image"]["info"]["epistemic_entropy"] for name, item in objects.items()}
    assert all(0 < score < np.log(2) for score in scores.values())
    assert server.post("/activelearning/epistemic")["id"] == max(scores, key=lambda name: scores[name])


def test_all_images_are_labelled_at_once(server: Server) -> None:
    server.post(f"/batch/infer/{NAME}?run_sync=true", device="cpu", multi_gpu=False, images="all")
    assert server.get("/info/")["datastore"]["label_tags"]["original"] == len(SIZES)
    assert read(server.call("GET", "/datastore/label?label=b&tag=original")).shape == SIZES["b.tif"]


def test_annotations_put_back_from_qupath_train_as_the_objects_they_surround(
    server: Server, weights: Path, own: Own, tmp_path: Path
) -> None:
    server.weights.write_bytes(weights.read_bytes())
    (tmp_path / "e.xml").write_bytes(annotations(server, "e", min_area=10))
    server.put_label("e", tmp_path / "e.xml")
    objects = own("instances", min_area=10)["e"]
    # objects join over edges, the background also over corners: a gap at a corner is no hole
    filled = [binary_fill_holes(objects == number, np.ones((3, 3))) for number in range(1, objects.max() + 1)]
    server.post(f"/train/{NAME}?run_sync=true", max_epochs=1, device="cpu")
    drawn = np.asarray(Image.open(server.bundle / "output" / "labels" / "e.jpg.png"))
    assert np.array_equal(drawn > 0, np.any(filled, axis=0))
    assert server.weights.read_bytes() != weights.read_bytes()  # with a single label there is no validation


def submit(server: Server, sections: dict, folder: Path) -> dict[str, np.ndarray]:
    """Submit the true cells as clients do: in the image's format, or as NIfTI (x, y, z) like 3D Slicer."""
    cells = {name.split(".")[0]: (cells > 0).astype(np.uint8) for name, (_, cells) in sections.items()}
    for name, label in cells.items():
        path = folder / f"{name}.png"
        if name in ("a", "c"):
            path = folder / f"{name}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(label.T[:, :, None], np.diag([-1, -1, 1, 1])), path)
        else:
            write(path, label)
        server.put_label(name, path)
    return cells


def test_labels_put_back_are_read_for_training_as_the_image_lies(
    server: Server, sections: dict, tmp_path: Path
) -> None:
    cells = submit(server, sections, tmp_path)
    assert server.get("/info/")["datastore"]["completed"] == len(SIZES)
    assert server.call("GET", "/datastore/label?label=b&tag=final") == (tmp_path / "b.png").read_bytes()
    reader = PlaneReader()
    pairs = server.get("/datastore/?output=train")
    assert len(pairs) == len(SIZES)
    for pair in pairs:
        image, label = (reader.get_data(reader.read(pair[key]))[0] for key in ("image", "label"))
        assert image.shape == label.shape
        assert np.array_equal(label, cells[Path(pair["label"]).name.split(".")[0]])


def test_training_replaces_the_weights_and_what_is_served(
    server: Server, weights: Path, sections: dict, own: Own, tmp_path: Path
) -> None:
    for suffix in (".pt", ".json"):  # earlier tests may have trained
        server.weights.with_suffix(suffix).write_bytes(weights.with_suffix(suffix).read_bytes())
    submit(server, sections, tmp_path)
    before, label = server.weights.read_bytes(), read(server.infer("d"))
    server.post(f"/train/{NAME}?run_sync=true", max_epochs=1, val_split=0.2, device="cpu")
    assert server.weights.read_bytes() != before
    history = (server.bundle / "output" / "train" / "history.csv").read_text().splitlines()
    assert len(history) == 2  # a header and one epoch: the number in the request, not the configuration's
    after = read(server.infer("d"))
    assert not np.array_equal(after, label)
    assert np.array_equal(after, own()["d"])
    # weights of earlier trainings may stay beside, with a number: MONAI Label loads the shortest name
    assert {re.sub(r"\.\d+", "", path.name) for path in (server.bundle / "models").iterdir()} == {
        "model.pt",
        "model.json",
        "training_state.pt",
    }


def first_choices(config: dict) -> dict:
    """The options of /info/ as 3D Slicer and QuPath send them all: the first choice of each list."""
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}


def test_clients_may_send_all_options_that_the_server_lists(server: Server) -> None:
    info = server.get("/info/")
    options = {**first_choices(info["models"][NAME]["config"]), "client_id": "user-xyz"}
    assert server.infer("a", **options) == server.infer("a")
    training = {**first_choices(info["trainers"][NAME]["config"]), "max_epochs": 1, "client_id": None}
    server.put_label("a", label_file(server, "a"))
    assert server.post(f"/train/{NAME}", **training)["status"] in ("SUBMITTED", "RUNNING")
    assert server.get("/train/?check_if_running=false")["request"]["max_epochs"] == 1
    server.call("DELETE", "/train/")


def label_file(server: Server, image: str) -> Path:
    path = server.labels.parent / f"submitted_{image}.png"
    path.write_bytes(server.infer(image))
    return path
