"""Fill the templates: one HTML file with all pictures, style and program inside. The page loads nothing.

A content security policy in the page forbids network and foreign programs. Names of files are text everywhere: jinja2
escapes them, and the page's program sets text, never HTML.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from ..io.files import replacing
from .page_file import GENERATOR, check_page
from .pictures import Picture

TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from jinja2.utils import markupsafe
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pages need the package jinja2: pip install jinja2") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["viewer_data"] = viewer_data
    environment.filters["drawing"] = markupsafe.Markup  # of `charts`, which escapes its texts
    environment.globals["style"] = markupsafe.Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment


def own_version() -> str | None:
    """Find the version of this project. None: unknown.

    Example:
        >>> str(own_version())[0].isdigit()
        True
    """
    folder = next((parent for parent in Path(__file__).resolve().parents if (parent / "configs").is_dir()), Path())
    try:
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(metadata.get("version"))


def viewer_data(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """List pictures for the program of the page.

    Example:
        >>> viewer_data([Picture("a.png", (4, 4), (4, 4), "data:,", "data:,")])[0]["title"]
        'a.png'
    """
    keys = ("title", "size", "shown", "base", "layers", "facts")
    return [{key: getattr(picture, key) for key in keys} for picture in pictures]


def render(template: str, version: str | None = None, **content: Any) -> str:
    """Fill a template.

    Args:
        template: name of a file in `templates/`: "report" or "preview".
        version: of this project. None: unknown.
        content: what the template shows. Missing values are an error.

    Returns:
        the HTML page.
    """
    environment = _environment()
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page: str = environment.get_template(f"{template}.html.j2").render(
        script=environment.filters["drawing"](script),
        script_hash=digest,
        generator=GENERATOR if version is None else f"{GENERATOR} {version}",
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        **content,
    )
    return page


def write_page(path: Path, page: str) -> None:
    """Write a page. The file appears completely or not at all.

    Raises:
        ForeignPageError: the file exists, and no command of this project has written it.

    Example:
        >>> from pathlib import Path
        >>> write_page(Path("report.html"), "<head>")
        >>> Path("report.html").read_text()
        '<head>'
    """
    check_page(path)
    with replacing(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))  # names of files may be no UTF-8
