"""Names of the settings in a plan. Nothing is imported here: commands refuse other names at once."""

from __future__ import annotations

OF_LISTS = ("datalist#image_dir", "datalist#label_dir", "tiff_axes")  # settings to choose the files
SECTIONS = {  # of a plan, in the order of the rules. `choices` has a function for each name
    "labels": ("label_kind", "label_values", "class_names", "key_metric"),
    "images": ("in_channels", "pixel_size", "intensity", "flatten"),
    "objects and loss": ("separation_gap", "close_gaps", "sigma", "class_balance", "scale"),
    "held-out images": ("split_rule", "val_fraction"),
    "network and time": ("finetune", "network_def#features", "input_size", "max_minutes"),
}
CHOSEN = tuple(key for keys in SECTIONS.values() for key in keys)
