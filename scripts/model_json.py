"""The settings in `model.json`: names, types and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from .options.check import converted
from .options.table import SETTINGS


class FittedObjects(BaseModel):
    """How the settings of objects were fitted to validation images.

    Example:
        >>> FittedObjects(measure="seg", before=0.7, after=0.8, images=4).after
        0.8
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str  # instance_f1, seg, v_rand or v_info
    before: float  # with the settings of the training
    after: float
    images: int  # number of validation images


class Training(BaseModel):
    """Facts about the training of weights. None: unknown.

    Example:
        >>> Training(dataset="isbi2012", images=20).images
        20
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str | None = None  # name of the folder
    images: int | None = None  # number of images trained with
    pixel_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # micrometres
    key_metric: str | None = None
    best: float | None = None  # the metric's best value in validation
    epoch: int | None = None  # of the best value
    run: str | None = None  # names the training: its resumed parts have the same name
    fitted: FittedObjects | None = None  # None: the settings of objects are given values, or defaults


class ModelSettings(BaseModel):
    """Settings that belong to weights. The defaults are the paper's network and values.

    Args:
        network: arguments of `scripts.networks.RonnebergerUNet` without channels. Missing ones are the
            network's defaults. None: a network of another class.
        in_channels: channels of the images.
        out_channels: channels of the scores: one for each class, or 1 for a single sigmoid output of two classes.
        class_names: class 0 is the background.
        intensity, flatten: as in `scripts.transforms.NormalizeImaged`.
        threshold, min_area, fill_holes, split_necks, close_gaps, field_border: as in
            `scripts.transforms.InstancesFromScoresd`.
        label_kind, label_values, separation_gap: how labels are read, as in `scripts.transforms.InstanceLabelsd`.
        key_metric: score of the best weights, as in `scripts.metrics.key_metric`.
        training: facts about the training.
        version: of this project, when the weights were written.
        sha256: checksum of the file of weights. None: no such file.

    Raises:
        pydantic.ValidationError (a ValueError): an unknown name, or a value of the wrong type or range.

    Example:
        >>> settings = ModelSettings(class_names=["background", "cell"], min_area=20)
        >>> settings.min_area, settings.threshold, settings.out_channels
        (20, 0.5, 2)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: dict[str, Any] | None = Field(default_factory=dict)
    in_channels: int = 1
    out_channels: int = 2
    class_names: list[str] = ["membrane", "cell"]
    intensity: Literal["z_score", "percentile"] = "z_score"
    flatten: float = 0
    threshold: float = 0.5
    min_area: int = 0
    fill_holes: int = 0
    split_necks: float = 0
    close_gaps: int = 0
    field_border: int = 0
    label_kind: Literal["binary", "instances", "classes"] = "binary"
    label_values: list[int] | dict[int, int] | None = None
    separation_gap: int = 1
    key_metric: str = "mean_dice"
    training: Training = Training()
    version: str | None = None
    sha256: str | None = None
    _source: str | None = PrivateAttr(None)

    @property
    def source(self) -> str | None:
        """The file of these settings. None: no file, the defaults."""
        return self._source

    @field_validator("*", mode="before")
    @classmethod
    def _check_range(cls, value: Any, info: ValidationInfo) -> Any:
        """Check type and range by the table of public settings."""
        return converted(str(info.field_name), value) if info.field_name in SETTINGS else value

    @model_validator(mode="after")
    def _check_classes(self) -> ModelSettings:
        classes = len(self.class_names)
        if self.out_channels != classes and (self.out_channels, classes) != (1, 2):
            raise ValueError(
                f"out_channels is {self.out_channels}, but class_names has {classes}: "
                f"{', '.join(self.class_names)}. Expected a channel for each class, or 1 for two classes"
            )
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names has a name twice: {', '.join(self.class_names)}. Reports name each class")
        return self

    def of(self, network: object, training: Training) -> ModelSettings:
        """Return the settings with a trained network and facts about its training. The network describes itself.

        Example:
            >>> from scripts import RonnebergerUNet
            >>> from scripts.settings import Training
            >>> ModelSettings().of(RonnebergerUNet(features=(4, 8)), Training()).network["features"]
            [4, 8]
        """
        from .networks.unet import RonnebergerUNet  # imports MONAI, which takes seconds

        changes: dict[str, Any] = {"training": training, "network": None}
        if isinstance(network, RonnebergerUNet):
            channels = {"in_channels": network.in_channels, "out_channels": network.out_channels}
            own = {name: value for name, value in network.definition.items() if name not in channels}
            changes |= {"network": own, **channels}
        return self.model_copy(update=changes)
