"""What MONAI makes of the configurations: the properties it looks for, and what the network takes and gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import _get_fake_spatial_shape
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import BundleProperty, BundlePropertyConfig, get_equivalent_dtype, set_determinism
from PIL import Image

from bundle.datasets.synthetic_em import SMALLEST_SIDE, synthetic_section
from bundle.publishing.rules.basis import STANDALONE, Bundle, Finding, rule

SMALL = {"network_def#features": [1, 2, 3, 4, 5], "device": "cpu"}  # only whether parts exist matters
COMPUTED = (1, 2)  # n of "16*n + 172": 188 and 204 pixels, really computed
TRACED = (1, 2, 25)  # 188, 204 and the paper's 572, where torch only works out sizes


@rule("properties")
def properties(bundle: Bundle) -> Iterator[Finding]:
    """Every property that MONAI knows of a training and of an inference is there, under its name."""
    with tempfile.TemporaryDirectory() as folder:
        data = _sections(Path(folder) / "data")
        training = {"dataset_dir": str(data), "model_dir": folder, "num_workers": 0}
        inference = {"dataset_dir": str(data / "images")}
        for name, kind, places in (("train.yaml", "train", training), ("inference.yaml", "infer", inference)):
            overrides = {**SMALL, **places, "output_dir": folder}
            try:
                yield from _wrong_properties(bundle, name, kind, overrides)
            except Exception as error:  # whatever a configuration raises is what is to be told
                yield Finding(
                    f"its parts cannot be made: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
                    f"configs/{name}",
                    "run it on a small data set, python -m bundle run --trace shows where it arose",
                )
            finally:
                set_determinism(None)  # which its initialize sets


def _wrong_properties(bundle: Bundle, name: str, kind: str, overrides: dict[str, Any]) -> Iterator[Finding]:
    workflow = ConfigWorkflow(
        config_file=str(bundle.configs / name),
        meta_file=str(bundle.configs / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **overrides,
    )
    ids = {key: known[BundlePropertyConfig.ID] for key, known in workflow.properties.items()}
    missing = [key for key, id in ids.items() if id not in workflow.parser]
    for key in missing:
        needed = (
            "required" if workflow.properties[key][BundleProperty.REQUIRED] else "optional, MONAI's tools look for it"
        )
        yield Finding(
            f"no {_shown(ids[key])} ({needed})", f"configs/{name}", workflow.properties[key][BundleProperty.DESC]
        )
    if missing:
        return  # MONAI's own check ends at the first of them with a KeyError
    workflow.initialize()
    for key in workflow.check_properties() or []:
        expected = workflow.properties[key].get(BundlePropertyConfig.REF_ID, "")
        yield Finding(
            f"{_shown(expected)} is not '@{_shown(ids[key])}'",
            f"configs/{name}",
            "refer to it: MONAI's tools set it by name",
        )


@rule("network in and out")
def network_in_and_out(bundle: Bundle) -> Iterator[Finding]:
    """The network takes and gives the channels, sizes and type of numbers that the metadata states."""
    form = bundle.metadata["network_data_format"]
    image, pred = form["inputs"]["image"], form["outputs"]["pred"]
    for name in STANDALONE:
        for device, ns in (("meta", TRACED), ("cpu", COMPUTED)):
            if device == "cpu" and name != "inference.yaml":
                continue  # the same network; another rule sees to that
            parser = ConfigParser(bundle.workflows[name])
            with torch.device(device):
                network = parser.get_parsed_content("network_def").eval()
            for n in ns:
                size, expected = (_get_fake_spatial_shape(part["spatial_shape"], n=n) for part in (image, pred))
                dtype = get_equivalent_dtype(image["dtype"], torch.Tensor)
                given = torch.zeros(1, image["num_channels"], *size, dtype=dtype, device=device)
                where = f"configs/metadata.json, network_data_format, against configs/{name}"
                try:
                    with torch.inference_mode():
                        out = network(given)
                except (RuntimeError, ValueError) as error:
                    yield Finding(f"input {tuple(given.shape)}: {error}", where, "state what the network takes")
                    continue
                yield from _compared(
                    tuple(given.shape), out, (1, pred["num_channels"], *expected), pred["dtype"], where
                )


def _compared(
    given: tuple[int, ...], out: torch.Tensor, shape: tuple[int, ...], dtype: str, where: str
) -> Iterator[Finding]:
    """One answer of the network beside what is stated."""
    if tuple(out.shape) != shape:
        yield Finding(f"input {given} gives {tuple(out.shape)}, stated is {shape}", where, "state what it gives")
    if out.dtype != get_equivalent_dtype(dtype, torch.Tensor):
        yield Finding(f"input {given} gives {out.dtype}, stated is {dtype}", where, "state what it gives")
    if out.device.type != "meta" and not bool(torch.isfinite(out).all()):
        yield Finding(f"input {given} gives numbers that are not finite", where, "mend the initial weights")


def _shown(id: str) -> str:
    return str(id).replace(ID_SEP_KEY, "#")


def _sections(folder: Path) -> Path:
    """Two small images with labels, the least that a training can be made of."""
    for k in range(2):
        pair = synthetic_section(np.random.default_rng(k), (SMALLEST_SIDE, SMALLEST_SIDE))
        for kind, pixels in zip(("images", "labels"), pair, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{k}.png")
    return folder
