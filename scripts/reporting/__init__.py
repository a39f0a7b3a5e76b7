"""Write pages to look at: the report of a run, and a preview of what a training sees. Each page is a single HTML file.

| name              | what it does                                                   |
|-------------------|----------------------------------------------------------------|
| `write_report`    | writes the page of a training, an evaluation or a segmentation |
| `TrainingPreview` | writes a page about what a training will see                   |
| `read_run`        | reads what a run has left in its folder                        |
| `NoRunError`      | error: a folder holds no run                                   |
"""

from .gather import NoRunError, read_run
from .preview import TrainingPreview
from .report import write_report

__all__ = ["NoRunError", "TrainingPreview", "read_run", "write_report"]
