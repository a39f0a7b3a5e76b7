"""The table of all public settings: type, range, unit and help of each key that users may set in `configs/`.

| module   | content                                                                           |
|----------|-----------------------------------------------------------------------------------|
| `table`  | `SETTINGS`, a row for each key. New keys of configurations need a row             |
| `kinds`  | types and ranges, for pydantic and for messages                                   |
| `check`  | check and convert values, find similar names                                      |
| `config` | the component `check_config`, which checks a whole configuration inside MONAI     |
"""

from ..lazy import lazy

_NAMES = {
    "check": ["checked", "converted", "similar", "unknown"],
    "config": ["check_config"],  # loads MONAI
    "table": ["GROUPS", "SETTINGS", "Setting"],
}
__all__ = ["GROUPS", "SETTINGS", "Setting", "check_config", "checked", "converted", "similar", "unknown"]
__getattr__, __dir__ = lazy(__name__, _NAMES)
