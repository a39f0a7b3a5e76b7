"""Measure published weights on images that did not train them, for the model card.

    python -m benchmarks.published nuclei --data data --training output/nuclei --measured output/measured.json
    python -m benchmarks.published nuclei

Writes `docs/results/<name>.json`: weights with checksum, training, versions, hardware, figures with 1 and 8 views, and
the worst images. Writes the tables of the model card, `docs/README.md`, between the marks of this name. `--training` is
the folder of a training, as of `benchmarks.recipes`. `--measured` is a split file, as from `benchmarks.recipes`: its
validation images are measured. Panels of all measured images are in `<training>/measured/views1/panels`. The panels of
the worst images become a picture of the card, where the licence of the data permits it. `--recipe` names the recipe of
a training by another command. Weights that train on all images cannot be measured: `--weights FILE` then measures
weights of the same recipe and fewer images, and the card says so.

Without `--training`, the tables of the card are written again from the results file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.tasks import EM_METRICS, TASKS, VIEWS, course, figures, protocol, with_ap
from bundle.experiments.provenance import hardware, versions
from bundle.running.configuration import ROOT, read_file
from bundle.running.errors import RunError, UsageError
from bundle.running.run import run
from scripts.data.datalist import find_pairs
from scripts.handlers.history import read_history
from scripts.io.files import replacing, sha256_of, write_json
from scripts.metrics.object_fit import FITTED
from scripts.published import find_weights
from scripts.settings import ModelSettings, read_settings

WORST, DRAWN = 5, 2  # images named, images drawn
WIDE = 800  # pixels of the picture
CARD = ROOT / "docs" / "README.md"
DATA = {
    "em": "ISBI 2012 EM segmentation challenge: public challenge data, cite [2]",
    "nuclei": "DSB2018-fluo, fluorescence images of the 2018 Data Science Bowl (CC0)",
}
DATA |= {f"{name}_small": data for name, data in DATA.items()}
PICTURED = ("nuclei", "nuclei_small")  # data without conditions
EM_CARD_METRICS = {
    **EM_METRICS,
    "warping error": ("em_metrics.json", "warping_error", "error"),
    "Rand error": ("em_metrics.json", "rand_error", "error"),
}


def measure(
    name: str,
    weights: Path,
    data: Path,
    training: Path,
    measured: Path,
    recipe: str | None = None,
    shipped: Path | None = None,
) -> dict[str, Any]:
    """Measure weights with 1 and 8 views.

    Args:
        name: of the weights, a key of `DATA`.
        weights: the file to measure.
        data: folder with the folder of the data set.
        training: folder of the training, with `history.csv` and `split.json`.
        measured: split file; its validation images are measured.
        recipe: configurations and settings, in words. None: from the `result.json` of `benchmarks.recipes`.
        shipped: the published file, if it is not the measured one.

    Returns:
        The content of the results file.

    Raises:
        ValueError: a measured image has trained the weights, the weights have no settings, the recipe is unknown, or
            `shipped` was not trained on all images.
    """
    task = TASKS[name.removesuffix("_small")]
    metrics = EM_CARD_METRICS if task is TASKS["em"] else task.metrics
    parts = []
    for file in (training / "split.json", measured):
        with _keys_of(file):
            content = read_file("split", str(file))
            parts.append({name: list(content[name]) for name in ("training", "validation")})
    recipe = recipe or _recipe(training, task.config)
    told = protocol(parts[0]["training"], parts[0]["validation"], parts[1]["validation"])
    settings = read_settings(weights)
    if settings is None:
        raise ValueError(f"{weights} has no settings. Published weights need their .json file")
    if not parts[1]["validation"]:
        raise ValueError(f"{measured} names no image to measure under validation")
    trained, images = len(parts[0]["training"]), len(find_pairs(str(data / task.folder)))
    if _images(weights) != trained:
        raise ValueError(
            f"{weights} was trained on {_images(weights)} images, {training} on {trained}: not its training"
        )
    if shipped:
        _check_twin(shipped, images, settings)
    evaluations = {}
    out = training / "measured"
    for views in VIEWS:
        given: dict[str, Any] = {"ckpt_path": str(weights), "split_file": str(measured)}
        given |= {"dataset_dir": str((data / task.folder).resolve()), "output_dir": str(out)}
        given |= {"evaluation_dir": str(out / f"views{views}"), "orientations": views}
        configs = [str(ROOT / "configs" / f"{part}.yaml") for part in ("train", task.config, "evaluate")]
        run("evaluating", config_file=configs, save_panels=views == 1, **given)
        evaluations[_views(views)] = with_ap(figures(out / f"views{views}", metrics))
    report = read_file("report", str(out / "views1" / str(next(iter(metrics.values()))[0])))
    return {
        "protocol": told,
        "measured": parts[1]["validation"],
        "weights": {**_file(weights), "settings": settings.model_dump(exclude={"sha256", "version"})},
        **({} if shipped is None else {"published": {**_file(shipped), "images": images}}),
        "training": course(training / "history.csv") | _machine(training),
        "recipe": recipe,
        "validations": [row for row in read_history(training / "history.csv") if row.get(task.metric) is not None],
        "evaluations": evaluations,
        "worst": report.get("worst", [])[:WORST],
        "versions": versions(),
        "hardware": hardware(),
    }


def _file(weights: Path) -> dict[str, Any]:
    """Describe a file. Published files have their folder in the name."""
    name = weights.relative_to(ROOT).as_posix() if weights.is_relative_to(ROOT / "models") else weights.name
    return {"file": name, "sha256": sha256_of(weights), "bytes": weights.stat().st_size}


def _images(weights: Path) -> int | None:
    """Return how many images trained these weights."""
    settings = read_settings(weights)
    return None if settings is None else settings.training.images


def _check_twin(shipped: Path, images: int, measured: ModelSettings) -> None:
    """Refuse a published file that is not trained on all images, or has another network or other classes."""
    if _images(shipped) != images:
        raise ValueError(f"{shipped} was trained on {_images(shipped)} of {images} images: measure this file itself")
    settings = read_settings(shipped)
    if settings is None or (settings.network, settings.class_names) != (measured.network, measured.class_names):
        raise ValueError(f"{shipped} has another network or other classes than the measured weights")


def _recipe(training: Path, config: str) -> str:
    """Name the configuration and the settings of a training of `benchmarks.recipes`, and its seed."""
    file = training / "result.json"
    if not file.is_file():
        raise ValueError(f"{training} has no result.json of benchmarks.recipes: name its recipe by --recipe")
    with _keys_of(file):
        of = read_file("result", str(file))["of"]
        files = ", ".join(f"`{name}.yaml`" for name in ("train", config, *of["way"]["overlays"]))
        settings = "".join(f", `{name}` {value}" for name, value in of["way"]["settings"].items())
        return f"{files}{settings}, seed {of['seed']}"


def _machine(training: Path) -> dict[str, Any]:
    """Read on which machine the training ran. Empty: not recorded."""
    file = training / "result.json"
    record = read_file("result", str(file)) if file.is_file() else {}
    return {"hardware": record["hardware"]} if "hardware" in record else {}


@contextmanager
def _keys_of(file: Path) -> Iterator[None]:
    """Name the file if a key is missing, or has a value of another kind."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        found = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file}: not written by this program, or damaged: {found}. Make it anew") from error


def _on(machine: Mapping[str, Any] | None) -> str:
    if machine is None:
        return ""
    return f", on {machine['processor']} ({machine['instructions']}), {machine.get('gpu', 'without a GPU')}"


def card(name: str, result: Mapping[str, Any]) -> str:
    """Write the section of the model card in Markdown: a table of facts, and a table of figures.

    Args:
        name: of the weights.
        result: as from `measure`.
    """
    weights, training = result["weights"], result["training"]
    settings = weights["settings"]
    objects = ", ".join(f"`{key}` {settings[key]:g}" for key in FITTED)
    worst = "; ".join(
        f"{image.pop('image')} ({', '.join(f'{key} {value:.3f}' for key, value in image.items())})"
        for image in map(dict, result["worst"])
    )
    minutes = training["step_seconds"] / 60
    file = result.get("published", weights)
    facts = {
        "weights": f"`{file['file']}`, name `{name}`, {file['bytes'] / 1e6:.1f} MB, sha256 {file['sha256'][:12]}",
        "trained on": _shipped(result.get("published")),
        "data": DATA[name],
        "parts": result["protocol"],
        "features": ", ".join(map(str, settings["network"]["features"])),
        "recipe": result["recipe"],
        "training": f"{training['steps']} steps, {minutes:.{0 if minutes > 10 else 1}f} minutes in steps"
        + _on(training.get("hardware")),
        "objects, fitted": objects if (settings.get("training") or {}).get("fitted") else "",
        "worst measured images": worst,
    }
    names = [key for key, value in next(iter(result["evaluations"].values())).items() if value is not None]
    lines = ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items() if value), ""]
    lines += [f"| measured images | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for views, found in result["evaluations"].items():
        cells = [_figure(key, found.get(key)) for key in names]
        lines.append(f"| `{name}`, {views} | {' | '.join(cells)} |")
    if picture(name).is_file():
        shown = "Image, label, probability, prediction and error of the worst images"
        lines += ["", f"![{shown}](images/{picture(name).name})"]
    return "\n".join(lines)


def _shipped(published: Mapping[str, Any] | None) -> str:
    """Say whose figures the card has, if not those of the published file."""
    if published is None:
        return ""
    others = "The figures are those of other weights, by the same recipe without the measured images"
    return f"all {published['images']} labelled images. {others}"


def _figure(name: str, value: float | None) -> str:
    return "not measured" if value is None else f"{value:.{6 if name == 'warping error' else 4}f}"


def picture(name: str) -> Path:
    """Return the file with the picture of the worst images of these weights."""
    return ROOT / "docs" / "images" / f"{name}_worst.png"


def draw_worst(panels: Sequence[Path], file: Path) -> None:
    """Put the panels of several images below each other, 800 pixels wide and in 256 colours.

    Args:
        panels: pictures of an evaluation.
        file: PNG to write.
    """
    pictures = [Image.open(panel).convert("RGB") for panel in panels]
    pictures = [one.resize((WIDE, round(one.height * WIDE / one.width)), Image.Resampling.LANCZOS) for one in pictures]
    whole = Image.new("RGB", (WIDE, sum(one.height for one in pictures)), "white")
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    with replacing(file) as new:
        few = whole.quantize(256, method=Image.Quantize.FASTOCTREE)  # keeps the colours of small objects
        few.save(new, format="PNG", optimize=True)


def insert(page: str, name: str, section: str) -> str:
    """Replace what a page has between the marks of a name.

    Args:
        page: text with `<!-- NAME: benchmarks.published -->` before, and `<!-- end -->` after the section.
        name: of the weights.
        section: new text.

    Raises:
        ValueError: the page has no marks of this name.

    Example:
        >>> insert("<!-- em: benchmarks.published -->old<!-- end -->", "em", "new").splitlines()
        ['<!-- em: benchmarks.published -->', '', 'new', '', '<!-- end -->']
    """
    mark, end = f"<!-- {name}: benchmarks.published -->", "<!-- end -->"
    before, found, rest = page.partition(mark)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the model card has no place for {name}: expected the lines {mark} and {end}")
    return f"{before}{mark}\n\n{section}\n\n{end}{after}"


def _views(count: int) -> str:
    return "one view" if count == 1 else f"mean of {count} views"


def main() -> None:
    """Measure, write the results file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=DATA)
    parser.add_argument("--weights", default=None, help="file to measure; default: the published weights of this name")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--training", type=Path, default=None, help="default: write the card from the results file")
    parser.add_argument("--measured", type=Path, default=None, help="needed with --training")
    parser.add_argument("--recipe", default=None, help="in words, for a training by another command")
    given = parser.parse_args()
    try:
        _write(given, parser)
    except (ValueError, OSError, UsageError, RunError) as error:
        sys.exit(f"error: {error}")


def _write(given: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Do what the command line says."""
    if (given.training is None) != (given.measured is None):
        parser.error("--training and --measured belong together. Without both the card is written from the results")
    if given.training is None and (given.weights or given.recipe):
        parser.error("--weights and --recipe need --training and --measured")
    insert(CARD.read_text(encoding="utf-8"), given.name, "")  # a card without a place for the section is told at once
    record = ROOT / "docs" / "results" / f"{given.name}.json"
    if given.training is None:
        result = read_file("results", str(record))
    else:
        weights = Path(find_weights(given.weights or given.name)).resolve()
        shipped = Path(find_weights(given.name)).resolve()
        folders = given.data, given.training.resolve(), given.measured.resolve()
        recipe = (given.recipe or "").strip() or None
        result = measure(given.name, weights, *folders, recipe, None if weights == shipped else shipped)
        if given.name in PICTURED:
            panels = given.training / "measured" / "views1" / "panels"
            worst = [panels / f"{Path(image['image']).stem}.png" for image in result["worst"][:DRAWN]]
            draw_worst(worst, picture(given.name))
        write_json(record, result)
    with _keys_of(record):
        section = card(given.name, result)
    print(section)
    page = insert(CARD.read_text(encoding="utf-8"), given.name, section)
    with replacing(CARD) as file:
        file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
