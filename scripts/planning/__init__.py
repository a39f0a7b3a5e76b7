"""Choose the settings of a training from images, labels and machine; find problems before a training.

| name                     | what it does                                                    |
|--------------------------|-----------------------------------------------------------------|
| `make_plan`, `Plan`      | measures a data set, chooses settings, and writes them as YAML  |
| `UndecidedError`         | the kind of the labels is unknown                               |
| `code_in`                | finds code in a plan of strangers                               |
| `diagnose`, `Diagnosis`  | finds problems of machine and data, worst first                 |
| `find_items`, `Listing`  | lists images and labels, also of folders with other names       |
| `CHOSEN`, `OF_LISTS`     | keys chosen by a plan; keys to choose the files                 |
| `FILE`, `NOTE`           | name of the file; key of the facts about the plan               |

Example, in Python::

    from original_unet.planning import make_plan
    print(make_plan("my/data").text)
"""

from ..lazy import lazy

_NAMES = {
    "diagnosis": ["Diagnosis", "diagnose"],
    "keys": ["CHOSEN", "OF_LISTS"],
    "listing": ["Listing", "find_items"],
    "overlay": ["FILE", "NOTE", "Plan", "UndecidedError", "code_in", "make_plan"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
