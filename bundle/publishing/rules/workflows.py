"""Rules for train.yaml and inference.yaml together: agreement, MONAI's properties, the network's input and output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import _get_fake_spatial_shape
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import BundleProperty, BundlePropertyConfig, get_equivalent_dtype, set_determinism

from bundle.datasets.sample import sample
from bundle.datasets.synthetic_em import SMALLEST_SIDE
from bundle.publishing.describe import describe
from bundle.publishing.layout import SETTINGS
from bundle.publishing.rules.basis import STANDALONE, Bundle, Finding
from bundle.running.failures import explain

PREPARATION = ("load", "channel_first", "normalize")  # steps before the network
NOT_HERE = {("inference.yaml", "key_metric")}  # inference has no labels; in train.yaml the key is a name of a metric
KEYS = ("keys", "allow_missing_keys")  # these differ: inference has no labels
SMALL = {"network_def#features": [1, 2, 3, 4, 5], "device": "cpu"}  # properties do not depend on the network's width
COMPUTED = (1, 2)  # n of "16*n + 172": 188 and 204 pixels, with real numbers
TRACED = (1, 2, 25)  # 188, 204 and the paper's 572 pixels, where torch computes only shapes


def agreement(bundle: Bundle) -> Iterator[Finding]:
    """train.yaml and inference.yaml prepare images alike. The metadata describes the network of the weights."""
    train, inference = bundle.workflows["train.yaml"], bundle.workflows["inference.yaml"]
    yield from _preparation(train, inference)
    parser = ConfigParser({**inference, "bundle_root": str(bundle.root)})
    described = describe(
        bundle.metadata, parser.get_parsed_content("network_def"), parser.get_parsed_content("settings")
    )
    yield from _metadata(bundle.metadata["network_data_format"], described["network_data_format"])


def properties(bundle: Bundle) -> Iterator[Finding]:
    """Training and inference have every property expected by MONAI, under MONAI's names."""
    with tempfile.TemporaryDirectory() as folder:
        sample(f"{folder}/data", size=SMALLEST_SIDE, train=2, test=0)
        data = f"{folder}/data/train"
        training = {"dataset_dir": data, "model_dir": folder, "num_workers": 0}
        inference = {"dataset_dir": f"{data}/images", "ckpt_path": f"{folder}/absent.pt"}
        for name, kind, places in (("train.yaml", "train", training), ("inference.yaml", "infer", inference)):
            try:
                yield from _wrong_properties(bundle, name, kind, {**SMALL, **places, "output_dir": folder})
            except Exception as error:  # a configuration may raise any error
                what = f"its parts cannot be made: {explain(error)[:300]}"
                remedy = "run it on a small data set: python -m bundle run --trace shows where the error arose"
                yield Finding(what, f"configs/{name}", remedy)
            finally:
                set_determinism(None)  # undo the configuration's `initialize`


def _wrong_properties(bundle: Bundle, name: str, kind: str, overrides: dict[str, Any]) -> Iterator[Finding]:
    where = f"configs/{name}"
    workflow = ConfigWorkflow(
        config_file=str(bundle.root / where),
        meta_file=str(bundle.root / "configs/metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **overrides,
    )
    ids = {key: known[BundlePropertyConfig.ID] for key, known in workflow.properties.items()}
    missing = [key for key, id in ids.items() if id not in workflow.parser and (name, key) not in NOT_HERE]
    for key in missing:
        known = workflow.properties[key]
        needed = "required" if known[BundleProperty.REQUIRED] else "optional, MONAI's tools look for it"
        yield Finding(f"no {_shown(ids[key])} ({needed})", where, known[BundleProperty.DESC])
    if missing:
        return  # MONAI's own check would raise a KeyError
    workflow.initialize()
    for key in workflow.check_properties() or []:
        expected = workflow.properties[key].get(BundlePropertyConfig.REF_ID, "")
        yield Finding(f"{_shown(expected)} is not '@{_shown(ids[key])}'", where, "refer to it: MONAI sets it by name")


def network_in_and_out(bundle: Bundle) -> Iterator[Finding]:
    """The network's input and output have the channels, sizes and dtypes of the metadata."""
    form = bundle.metadata["network_data_format"]
    image, pred = form["inputs"]["image"], form["outputs"]["pred"]
    for name, device, ns in (
        *((name, "meta", TRACED) for name in STANDALONE),
        ("inference.yaml", "cpu", COMPUTED),  # train.yaml has the same network by the rule `agreement`
    ):
        where = f"configs/metadata.json, network_data_format, against configs/{name}"
        with torch.device(device):
            parser = ConfigParser({**bundle.workflows[name], "bundle_root": str(bundle.root)})
            network = parser.get_parsed_content("network_def").eval()
        for n in ns:
            size, expected = (_get_fake_spatial_shape(part["spatial_shape"], n=n) for part in (image, pred))
            dtype = get_equivalent_dtype(image["dtype"], torch.Tensor)
            given = torch.zeros(1, image["num_channels"], *size, dtype=dtype, device=device)
            try:
                with torch.inference_mode():
                    out = network(given)
            except (RuntimeError, ValueError) as error:
                yield Finding(f"input {tuple(given.shape)}: {error}", where, "state what the network takes")
                continue
            gives, shape = f"input {tuple(given.shape)} gives", (1, pred["num_channels"], *expected)
            if tuple(out.shape) != shape:
                yield Finding(f"{gives} {tuple(out.shape)}, stated is {shape}", where, "state the network's output")
            if out.dtype != get_equivalent_dtype(pred["dtype"], torch.Tensor):
                yield Finding(f"{gives} {out.dtype}, stated is {pred['dtype']}", where, "state the network's output")
            if device != "meta" and not bool(torch.isfinite(out).all()):
                yield Finding(f"{gives} numbers that are not finite", where, "correct the initial weights")


def _preparation(train: Mapping[str, Any], inference: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the steps for reading and scaling an image: components and arguments."""
    for key in PREPARATION:
        step, other = (_without(config.get(key, {}), KEYS) for config in (train, inference))
        if step != other:
            yield _differ(key, step, other, "train.yaml", "inference.yaml")


def _metadata(stated: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the stated input and output of the network with the described ones, key by key."""
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        for key, value in described[side][name].items():
            found = stated[side][name].get(key)
            if found != value:
                yield _differ(f"network_data_format#{side}#{name}#{key}", found, value, "metadata.json", SETTINGS)


def _without(component: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in component.items() if key not in keys}


def _differ(key: str, one: Any, other: Any, here: str, there: str) -> Finding:
    return Finding(f"{key} is {one!r} in {here}, {other!r} in {there}", f"configs/{here}", "make them equal")


def _shown(id: str) -> str:
    return str(id).replace(ID_SEP_KEY, "#")
