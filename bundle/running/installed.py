"""Run a configuration with the components of the installed package."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.config_item import ConfigComponent, ConfigExpression

from .package import components


class InstalledWorkflow(ConfigWorkflow):
    """Run a configuration with the components of the installed package. The configuration keeps its names.

    Recorded configurations therefore run with `python -m monai.bundle`, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _InstalledParser(self.parser.get())

    def run(self) -> list[Any]:
        """Run, without MONAI's change of `sys.path`: the package's folder has modules such as `io`."""
        return self._run_expr(id=self.run_id)


class _InstalledParser(ConfigParser):
    """Rename components and imports when a configuration is parsed."""

    def parse(self, reset: bool = True) -> None:
        super().parse(reset)
        renamed = components("renamed")
        for item in self.ref_resolver.items.values():
            config = item.get_config()
            if isinstance(item, ConfigComponent):  # parts of a component are items themselves
                item.update_config({**config, **renamed({"_target_": config["_target_"]})})
            elif isinstance(item, ConfigExpression):
                item.update_config(renamed(config))
