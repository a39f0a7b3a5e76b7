"""What `--tracking` may be, told before anything is built."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from bundle.errors import UsageError

PARTS = {"handlers_id", "configs"}  # of MONAI's settings for experiment tracking


def tracking_keys(tracking: Any) -> dict[str, Any]:
    """The keys that experiment tracking adds to a config, with their values; handlers left out.

    Args:
        tracking: value of --tracking: mlflow, the name of a file of settings, the settings themselves, or None.

    Raises:
        UsageError: neither a word that MONAI knows nor such settings; or MLflow is asked for and not installed.
    """
    if tracking is None:
        return {}
    if tracking == "mlflow" and find_spec("mlflow") is None:
        raise UsageError(
            "--tracking mlflow: mlflow is not installed; install it with: pip install -c constraints.txt '.[tracking]'"
        )
    settings = _settings(tracking)
    return {key: value for key, value in settings["configs"].items() if key not in settings["handlers_id"]}


def _settings(tracking: Any) -> Mapping[str, Any]:
    """The settings behind the word, in the file, or as they are."""
    words = sorted(DEFAULT_EXP_MGMT_SETTINGS)
    where = ""
    if isinstance(tracking, str):
        if tracking in words:
            return DEFAULT_EXP_MGMT_SETTINGS[tracking]
        if not Path(tracking).is_file():
            near = difflib.get_close_matches(tracking.lower(), words, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"give {' or '.join(words)}, or a file of settings"
            raise UsageError(f"--tracking {tracking}: no tracker and no file has this name; {hint}")
        where = f" {tracking}"
        tracking = ConfigParser.load_config_file(tracking)
    if not isinstance(tracking, Mapping) or not set(tracking) >= PARTS:
        raise UsageError(
            f"--tracking{where}: expected settings with the keys handlers_id and configs, "
            "as monai.bundle.utils.DEFAULT_MLFLOW_SETTINGS has them"
        )
    return tracking
