"""Write pages to look at: the report of a run, and a preview of what a training sees. Each page is a single HTML file.

| name              | what it does                                                   |
|-------------------|----------------------------------------------------------------|
| `write_report`    | writes the page of a training, an evaluation or a segmentation |
| `TrainingPreview` | writes a page about what a training will see                   |
| `read_run`        | reads what a run has left in its folder                        |
| `PAGE`            | name of the page of a run                                      |
| `check_page`      | refuses to replace files of other programs; loads no torch     |
| `NoRunError`      | error: a folder holds no run                                   |
"""

from ..lazy import lazy

_NAMES = {
    "report": ["write_report"],
    "preview": ["TrainingPreview"],
    "page_file": ["PAGE", "check_page"],
    "gather": ["NoRunError", "read_run"],
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy(__name__, _NAMES)
