"""`report` and `preview`: pages to look at, to keep and to mail."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import RunError, UsageError, check_whole
from .failures import explain
from .package import library_package
from .plan import check_exists
from .program import CALLED_AS
from .terminal import printable, tracked
from .workflows import keys_help as keys_help
from .workflows import run_preview


def report(
    run: str,
    *,
    open: bool = False,
    output: str | None = None,
    data: str | None = None,
    images: int = 24,
) -> None:
    """Write a page about a training, an evaluation or a segmented folder.

    Writes RUN/report.html: summary and verdict, curves, pictures with truth, probability, objects and errors, a table
    of all images, settings and machine. A single file without network: works from a mail attachment. Images of a
    training are segmented with the saved weights. A training that still runs, or was interrupted, gives a page, too.

    Examples:
        python -m bundle report output/data
        python -m bundle report output/evaluation/test --open
        python -m bundle report output/segmentation --images 50 --output report.html

    Args:
        run: folder of a training, an evaluation or a segmentation.
        open: open the page in the browser.
        output: file for the page. Default: RUN/report.html.
        data: folder of the images or of the data set, if they have moved. Default: as recorded in RUN/run.json.
        images: most images with pictures. 0: none.
    """
    write_report(run, open, output, data, images)


def write_report(
    run: str,
    open: bool = False,
    output: str | None = None,
    data: str | None = None,
    images: int = 24,
    results: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of a run, and say where. Arguments as in `report`; `results`: a section with experiments.

    Raises:
        UsageError: no run, a wrong option, or a file of another program in place of the page.
        RunError: the page cannot be made.
    """
    check_whole("images", images, least=0)
    check_exists("RUN", run, "the folder of a training, an evaluation or a segmentation")
    reporting = library_package("reporting")
    try:
        reporting.check_page(Path(output or Path(run) / reporting.PAGE).expanduser())
        path = reporting.write_report(
            Path(run).expanduser(),
            None if output is None else Path(output).expanduser(),
            None if data is None else Path(data).expanduser(),
            images,
            CALLED_AS.get(),
            results,
            tracked,
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    except (RuntimeError, ModuleNotFoundError) as error:
        raise RunError(explain(error)) from error
    _show(path, open)


def preview(
    dataset: str,
    *,
    open: bool = False,
    output: str | None = None,
    overlay: str | list[str] | None = None,
    plan: str | None = None,
    images: int = 6,
    trace: bool = False,
    **key: Any,
) -> None:
    """Write a page about what a training will see.

    Runs configs/train.yaml and configs/preview.yaml, without training. Shows images with separated objects and weight
    maps, augmented samples with grid lines, and tiles over the mirrored image. Uses the plan of the data as `train`
    does. Give other settings of the training, too.

    Examples:
        python -m bundle preview data/cells --open
        python -m bundle preview data/cells --rotation 0 --images 12

    Args:
        dataset: images with labels, as for `train`.
        open: open the page in the browser.
        output: file for the page. Default: output/<name of DATASET>/preview.html.
        overlay: name (variant_fast) or file of changes to the configuration. Several: a,b.
        plan: false: without a plan. A file: that plan. Default: the plan of the data set, as for `train`.
        images: number of images, evenly from the training images.
        trace: show the full trace of an error.
        key: keys of the configuration and their new values, as for `train`.
    """
    check_whole("images", images)
    _show(run_preview(dataset, overlay, plan, output, images, trace, key), open)


def _show(path: Path, open: bool) -> None:
    size = path.stat().st_size / 1e6
    print(printable(f"page: {path} ({size:.1f} MB)"))
    if open and not webbrowser.open(path.resolve().as_uri()):
        print(printable(f"no browser was found; open {path.resolve()} in one"))
