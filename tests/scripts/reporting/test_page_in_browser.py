"""The pages work in a browser: viewer, table, keys, small windows, dark windows, and for readers with aids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.io.files import write_csv
from scripts.reporting import write_report

from .browser import axe, chromium, open_page
from .runs import NAMES, history, made_data, made_evaluation, made_preview

AXE = """
const done = arguments[arguments.length - 1];
axe.run(document).then((found) => done([found.passes.map((rule) => rule.id), found.violations.map(
  (rule) => `${rule.id}: ${rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" | ")}`)]));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an evaluation, with curves of a training in the same folder."""
    folder = made_evaluation(tmp_path_factory.mktemp("page"))
    write_csv(folder / "history.csv", history([0.3, 0.5, 0.6, 0.61]))
    return write_report(folder)


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a preview with two images."""
    folder = tmp_path_factory.mktemp("preview")
    made_preview(folder / "preview.html", made_data(folder / "data", NAMES[:2])).write()
    return folder / "preview.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    """The page in a wide window. At the end, neither errors nor refused loads were reported."""
    open_page(browser, page)
    yield browser
    assert browser.get_log("browser") == []


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def texts(browser: Any, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements("css selector", selector)]


def layers(browser: Any) -> list[Any]:
    return browser.find_elements("css selector", ".canvas img")


def press(browser: Any, keys: str) -> None:
    find(browser, ".stage").send_keys(keys)


def test_the_viewer_begins_with_the_errors_of_the_worst_image(opened: Any) -> None:
    assert find(opened, ".name").text == f"1 of {len(NAMES)}: {NAMES[-1]}"
    assert [image.get_attribute("alt") for image in layers(opened)] == [f"image {NAMES[-1]}", f"error of {NAMES[-1]}"]
    assert all(image.get_property("naturalWidth") == 80 for image in layers(opened))
    assert "missed object" in find(opened, ".below .legend").text
    assert "1 missed" in find(opened, ".facts").text


def test_the_slider_sets_the_opacity_of_the_layer_and_each_layer_keeps_its_own(opened: Any) -> None:
    slide = "const s = document.querySelector('.opacity input'); s.value = 40; s.dispatchEvent(new Event('input'))"
    opened.execute_script(slide)
    assert layers(opened)[1].value_of_css_property("opacity") == "0.4"
    assert find(opened, ".opacity output").text == "40 %"
    press(opened, "2")
    assert "truth of" in layers(opened)[1].get_attribute("alt")
    assert layers(opened)[1].value_of_css_property("opacity") == "1"
    press(opened, "1")  # the image alone
    assert len(layers(opened)) == 1
    assert not find(opened, ".opacity input").is_enabled()
    press(opened, "5")
    assert layers(opened)[1].value_of_css_property("opacity") == "0.4"


def test_keys_and_buttons_zoom_move_and_turn_over(opened: Any) -> None:
    width = "return document.querySelector('.canvas').getBoundingClientRect().width"
    left = "return document.querySelector('.canvas').getBoundingClientRect().left"
    fitted = opened.execute_script(width)
    press(opened, "++")
    assert opened.execute_script(width) == pytest.approx(2.25 * fitted, rel=0.01)
    before = opened.execute_script(left)
    press(opened, "\ue008\ue014")  # shift and right
    assert opened.execute_script(left) < before
    find(opened, "[data-do=fit]").click()
    assert opened.execute_script(width) == pytest.approx(fitted, rel=0.01)
    press(opened, "\ue014")  # right
    assert find(opened, ".name").text.startswith("2 of")
    press(opened, "\ue012\ue012")  # left, left: the last image
    assert find(opened, ".name").text == f"{len(NAMES)} of {len(NAMES)}: cell 1.png"
    opened.find_elements("css selector", ".thumbs button")[1].click()
    assert find(opened, ".name").text.startswith("2 of")


def test_the_table_sorts_filters_and_opens_a_picture(opened: Any) -> None:
    assert texts(opened, "#table tbody th")[-1] == "cell 1.png"  # worst first
    score = opened.find_elements("css selector", "#table thead th")[1]
    assert (score.text.strip(), score.get_attribute("aria-sort")) == ("F1 at IoU .5", "ascending")
    score.find_element("css selector", "button").click()
    assert texts(opened, "#table tbody th")[0] == "cell 1.png"
    assert score.get_attribute("aria-sort") == "descending"
    find(opened, "[data-filter]").send_keys("CELL")
    assert [name for name in texts(opened, "#table tbody th") if name] == ["cell 1.png", "cell 2.png"]
    assert find(opened, ".filter output").text == f"2 of {len(NAMES)} images"
    find(opened, "#table tbody button").click()
    assert find(opened, ".name").text.endswith("cell 1.png")
    assert opened.switch_to.active_element.get_attribute("class") == "stage"


def test_a_name_with_a_script_is_shown_as_text(opened: Any) -> None:
    assert NAMES[-1] in texts(opened, "#table tbody th")
    assert len(opened.find_elements("css selector", "body script:not([type])")) == 1


def test_the_viewers_of_a_page_work_apart(browser: Any, preview: Path) -> None:
    open_page(browser, preview)
    viewers = browser.find_elements("css selector", ".viewer")
    assert [len(viewer.find_elements("css selector", ".thumbs button")) for viewer in viewers] == [2, 4, 2]
    viewers[1].find_element("css selector", "[data-do=next]").click()
    names = [viewer.find_element("css selector", ".name").text for viewer in viewers]
    assert names == ["1 of 2: cell 1.png", "2 of 4: cell 1.png, sample 2", "1 of 2: cell 1.png"]
    shown = [viewer.find_elements("css selector", ".canvas img")[1].get_attribute("alt") for viewer in viewers]
    assert [text.split(" of ")[0] for text in shown] == ["separated", "grid", "tiles"]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("kind", ["page", "preview"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_window_and_passes_the_checks_for_readers_with_aids(
    browser: Any, request: pytest.FixtureRequest, width: int, dark: bool, kind: str
) -> None:
    program = axe()
    open_page(browser, request.getfixturevalue(kind), width, dark)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    browser.execute_script(program)
    held, broken = browser.execute_async_script(AXE)
    assert {"color-contrast", "image-alt", "label", "button-name"} <= set(held)
    assert broken == []
    assert browser.get_log("browser") == []
