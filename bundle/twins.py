"""JSON twins of the YAML configurations, for what looks for JSON alone, such as `monai.bundle.load`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from monai.bundle import ConfigParser

from bundle.errors import RunError

TWINS = ("train", "inference", "evaluate", "multi_gpu_train")  # names that the zoo's bundles have


def json_twins(configs: Path) -> dict[str, bytes]:
    """The twins of a folder's configurations, each proved equal to its original by MONAI's own reader.

    Args:
        configs: holds the YAML files; `TWINS` that are not there are left out.

    Returns:
        file name -> content.

    Raises:
        RunError: a configuration says something that JSON cannot, such as a key that is a number.
    """
    originals = {name: configs / f"{name}.yaml" for name in TWINS}
    return {f"{name}.json": _twin(path) for name, path in originals.items() if path.is_file()}


def _twin(original: Path) -> bytes:
    config = ConfigParser.load_config_file(original)
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / f"{original.stem}.json"
        try:
            ConfigParser.export_config_file(config, str(twin), fmt="json", indent=4)
        except TypeError as error:  # a date, for one
            raise RunError(f"{original}: {error}; write it as text or numbers") from error
        back = ConfigParser.load_config_file(twin)
        for key, value in config.items():
            # as values, since text and number keys look alike in JSON; and as JSON, since True == 1
            if back.get(key) != value or json.dumps(back[key]) != json.dumps(value):
                raise RunError(f"{original}: {key} is {value!r}, as JSON {back.get(key)!r}; write what both can say")
        return twin.read_bytes() + b"\n"
