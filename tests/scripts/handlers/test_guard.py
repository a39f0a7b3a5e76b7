"""The folder of a run is locked, and the run's images and labels stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from ignite.engine import Engine, Events

from scripts.handlers.guard import GuardFolder


def run(guard: GuardFolder, *others: object, step=lambda *_: None) -> None:
    engine = Engine(step)
    for handler in (guard, *others):
        handler.attach(engine)
    engine.run([0])


@pytest.mark.parametrize(
    "name, role", [("panels/a.png", "image"), ("metrics_per_image.csv", "label"), ("panel.png", "image")]
)
def test_images_and_labels_are_never_replaced(name: str, role: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    item = {"image": str(tmp_path / "b.png"), "label": str(tmp_path / "c.png"), role: str(path)}
    with pytest.raises(ValueError, match=rf"{path.name}.*set evaluation_dir to another folder"):
        run(GuardFolder(tmp_path, [item], "evaluation_dir", panels=True))


def test_other_files_of_the_folder_may_be_data(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    run(GuardFolder(tmp_path, [{"image": str(tmp_path / "a.png"), "label": str(tmp_path / "a.png")}], panels=True))


def test_the_folder_is_locked_until_the_end_and_freed_after_an_error(tmp_path: Path) -> None:
    seen = []

    def look(*_: object) -> None:
        seen.append((tmp_path / ".lock").exists())

    run(GuardFolder(tmp_path), step=look)
    assert seen == [True]
    assert not (tmp_path / ".lock").exists()

    class Reraise:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.EXCEPTION_RAISED, self.give_up)

        def give_up(self, _: Engine, error: BaseException) -> None:
            raise error

    def fail(*_: object) -> None:
        raise ValueError("bad image")

    for others in ([], [Reraise()]):
        with pytest.raises(ValueError, match="bad image"):
            run(GuardFolder(tmp_path), *others, step=fail)
        assert not (tmp_path / ".lock").exists()


def test_panels_of_another_evaluation_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "panels").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "panels" / name).touch()
    items = [{"image": "images/a.png", "label": "labels/a.png"}]
    run(GuardFolder(tmp_path, items, panels=False))
    assert "panels" not in caplog.text
    run(GuardFolder(tmp_path, items, panels=True))
    assert "holds 1 panels of other images" in caplog.text
