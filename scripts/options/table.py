"""The table of public settings. Every top-level key that users may set has a row here.

How do I add a key to a configuration?

1. Write the key in `configs/`, with its default and a comment.
2. Add a row to a group below: type and range (see `kinds`), a line of help, workflows, unit, other names in use.
3. Write the page of all settings anew, as the project's guide for contributors says. A check before publishing names
   keys without a row, rows without a key, and an old page.

The row does the rest: both commands check and convert values, `--help` and the page list the key, and messages after
wrong names lead to the key. Components read the key as before, with `@NAME`. Parts of a configuration (components,
sections, lists of steps) have no row.
"""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import (
    Kind,
    anything,
    axes,
    choice,
    either,
    file,
    listed,
    mapping,
    names,
    number,
    or_null,
    path,
    switch,
    text,
    weights,
    whole,
)

TRAIN = ("train", "evaluate")  # train.yaml is the base of evaluate.yaml
EVALUATE = ("evaluate",)
INFERENCE = ("inference",)
ALL = (*TRAIN, *INFERENCE)
PIXELS = "pixels"
KEY_METRICS = ("mean_dice", "mean_iou", "v_rand", "v_info", "seg", "instance_f1")


@dataclass(frozen=True)
class Setting:
    """A row of the table.

    Args:
        kind: type and range.
        help: meaning, in one line.
        of: workflows with the key.
        unit: of a number.
        also: other names that users try.
    """

    kind: Kind
    help: str
    of: tuple[str, ...]
    unit: str = ""
    also: tuple[str, ...] = ()


FRAMES = mapping(
    choice("sequences", "reference", "frames"),
    anything("sequences, a reference or frames"),
    "sequences, reference and frames, such as {sequences: '01', reference: gold, frames: 0-20}",
)
GREY = whole(0, 255)
ANY_WHOLE = whole(-(2**53), 2**53)

INPUT_AND_OUTPUT: dict[str, Setting] = {
    "bundle_root": Setting(path("a folder"), "folder of the bundle, with configs/ and models/", ALL),
    "dataset_dir": Setting(
        path(),
        "images and labels, or for inference a folder, a stack or an image",
        ALL,
        also=("data", "dataset", "data_dir", "input", "images", "path", "image_dir"),
    ),
    "output_dir": Setting(
        path("a folder"), "folder of the results", ALL, also=("out", "output", "results", "save_dir")
    ),
    "model_dir": Setting(path("a folder"), "folder of the weights and of the state", TRAIN, also=("models",)),
    "evaluation_dir": Setting(path("a folder"), "folder of the reports of an evaluation", EVALUATE),
    "ckpt_path": Setting(
        weights(),
        "weights to use",
        (*EVALUATE, *INFERENCE),
        also=("weights", "model", "checkpoint", "ckpt", "pretrained"),
    ),
    "finetune": Setting(
        or_null(weights()), "weights to start from", TRAIN, also=("from", "pretrained", "weights", "init_weights")
    ),
    "backend": Setting(or_null(file()), "exported network to run (.onnx, .ts, .pt2)", INFERENCE),
    "onnx_engine": Setting(choice("onnxruntime", "openvino"), "program for .onnx files", INFERENCE),
    "device": Setting(
        anything("a device"), "cpu, cuda, cuda:1 and so on", ALL, also=("gpu", "gpus", "cuda", "use_gpu", "cpu")
    ),
}
IMAGES_AND_LABELS: dict[str, Setting] = {
    "in_channels": Setting(or_null(whole(1, 1024)), "channels of the images", ALL, also=("channels", "n_channels")),
    "class_names": Setting(
        or_null(names(2)),
        "name of each class, the background first",
        ALL,
        also=("classes", "n_classes", "num_classes", "labels"),
    ),
    "out_channels": Setting(
        or_null(whole(1, 1024)), "channels of the scores: a channel for each class, or 1 for two classes", ALL
    ),
    "tiff_axes": Setting(or_null(axes()), "axes of TIFF files with wrong axes", ALL, also=("axes",)),
    "pixel_size": Setting(
        or_null(either(number(above=0), choice("auto"))),
        "height and width of a pixel of the images; auto: from the headers",
        ALL,
        "micrometres",
        also=("spacing", "resolution", "voxel_size"),
    ),
    "label_kind": Setting(
        or_null(choice("binary", "instances", "classes")),
        "meaning of the values in label files",
        TRAIN,
        also=("labels", "task", "label_type"),
    ),
    "label_values": Setting(
        or_null(
            either(
                listed(ANY_WHOLE, "a list of different values", different=True),
                mapping(ANY_WHOLE, whole(), "a class for each value"),
            )
        ),
        "values of the classes in label files, for label_kind classes: [0, 255], or a class for each value",
        TRAIN,
        also=("class_values", "labels", "mask_values"),
    ),
    "val_fraction": Setting(
        number(above=0, below=1),
        "share of the images for validation",
        TRAIN,
        also=("validation", "val_split", "validation_split", "val_percent", "val"),
    ),
    "check_labels": Setting(
        choice("refuse", "warn", "off"),
        "labels that are surely wrong, and pairs that are mirrored: refuse, only warn, or do not look",
        TRAIN,
    ),
    "split_rule": Setting(
        choice("random", "last", "block", "series", "all"), "rule of the split", TRAIN, also=("split",)
    ),
    "fold": Setting(whole(), "number of the validation block, for split_rule block", TRAIN, also=("folds",)),
    "split_file": Setting(or_null(file()), "split.json, to repeat a split", TRAIN, also=("split",)),
    "training_frames": Setting(FRAMES, "sequences and frames to train with (Cell Tracking Challenge)", TRAIN),
    "validation_frames": Setting(FRAMES, "sequences and frames to validate with (Cell Tracking Challenge)", TRAIN),
    "key_metric": Setting(
        or_null(choice(*KEY_METRICS)),
        "score that selects the best weights. instance_f1 for label_kind instances",
        TRAIN,
        also=("metric", "metrics", "monitor"),
    ),
    "intensity": Setting(
        or_null(choice("z_score", "percentile")), "scaling of grey values", ALL, also=("normalize", "normalization")
    ),
    "flatten": Setting(
        or_null(number(0, 10_000)), "sigma of the blur subtracted against uneven light; 0: off", ALL, PIXELS
    ),
}
OBJECTS: dict[str, Setting] = {
    "threshold": Setting(
        or_null(number(0, 1)),
        "probability of class 1 above which a pixel belongs to an object",
        ALL,
        also=("prob_thresh", "cutoff", "mask_threshold"),
    ),
    "min_area": Setting(
        or_null(whole()), "smaller objects are dropped", ALL, PIXELS, also=("min_size", "min_object_size", "area")
    ),
    "fit_objects": Setting(
        switch(),
        "null threshold, fill_holes, min_area, split_necks and close_gaps are fitted to the validation images",
        TRAIN,
    ),
    "fill_holes": Setting(or_null(whole()), "holes up to this size are filled; 0: none", ALL, PIXELS, also=("holes",)),
    "split_necks": Setting(
        or_null(number(0, 10_000)),
        "objects are split at constrictions this much narrower (radius) than both parts; 0: off",
        ALL,
        PIXELS,
    ),
    "close_gaps": Setting(
        or_null(whole(0, 100)), "gaps up to this width between two objects are filled; 0: off", ALL, PIXELS
    ),
    "field_border": Setting(
        or_null(whole(0, 100_000)), "objects wholly inside a border of this width are dropped; 0: none", ALL, PIXELS
    ),
    "separation_gap": Setting(
        or_null(whole(0, 100)), "background inserted between touching objects", TRAIN, PIXELS, also=("gap",)
    ),
}
TRAINING: dict[str, Setting] = {
    "input_size": Setting(
        whole(1, 100_000),
        "length of the network's input tiles",
        TRAIN,
        PIXELS,
        also=("patch_size", "tile_size", "image_size", "img_size", "crop_size", "roi_size", "size", "imgsz"),
    ),
    "output_size": Setting(
        or_null(whole(1, 100_000)), "length of the network's output; null: as the network gives", TRAIN, PIXELS
    ),
    "batch_size": Setting(whole(1, 65_536), "tiles in a step", TRAIN, also=("batch", "batchsize", "bs", "batches")),
    "momentum": Setting(number(0, below=1), "momentum of SGD", TRAIN),
    "freeze_contracting": Setting(
        switch(),
        "fine-tuning leaves the contracting path as it is, down to the lowest level",
        TRAIN,
        also=("freeze", "freeze_encoder", "freeze_backbone"),
    ),
    "w0": Setting(number(0, 10_000), "height of the separation borders in the weight map (Eq. 2)", TRAIN),
    "sigma": Setting(number(above=0, most=10_000), "width of the separation borders (Eq. 2)", TRAIN, PIXELS),
    "elastic_points": Setting(whole(2, 1000), "points of the displacement grid along an axis", TRAIN),
    "elastic_sigma": Setting(
        number(0, 10_000), "standard deviation of the displacements; 0: none", TRAIN, PIXELS, also=("elastic",)
    ),
    "learning_rate": Setting(
        number(above=0, most=1000), "highest learning rate", TRAIN, also=("lr", "rate", "base_lr", "initial_lr", "lr0")
    ),
    "warmup_iterations": Setting(
        whole(),
        "steps in which the learning rate rises, at most a tenth of all",
        TRAIN,
        also=("warmup", "warmup_steps", "warm_up"),
    ),
    "max_gradient_norm": Setting(
        number(0), "larger gradients are shortened to this norm; 0: off", TRAIN, also=("clip", "grad_clip", "max_norm")
    ),
    "max_epochs": Setting(
        whole(1, 10**9),
        "epochs of the training",
        TRAIN,
        also=("epochs", "epoch", "n_epochs", "num_epochs", "iterations"),
    ),
    "tiles_per_epoch": Setting(
        or_null(whole(1, 10**9)),
        "tiles of an epoch; null: a tile of every training image",
        TRAIN,
        also=("steps", "steps_per_epoch", "samples_per_epoch"),
    ),
    "max_minutes": Setting(
        or_null(number(above=0)), "time limit of the training", TRAIN, "minutes", also=("minutes", "time", "time_limit")
    ),
    "val_interval": Setting(
        whole(1, 10**9), "epochs between two validations", TRAIN, also=("validate_every", "val_every", "interval")
    ),
    "validate_first": Setting(switch(), "validate before epoch 1", TRAIN),
    "patience": Setting(
        whole(), "validations without improvement until the training stops; 0: never", TRAIN, also=("early_stopping",)
    ),
    "dropout": Setting(
        or_null(number(0, below=1)), "share of values dropped in training", TRAIN, also=("drop", "p_drop")
    ),
    "class_balance": Setting(
        or_null(either(choice("per_image"), listed(number(0), "a list of weights"))),
        "class weights in the loss: from each image, or a weight for each class; null: 1",
        TRAIN,
        also=("class_weights", "class_weight"),
    ),
    "rotation": Setting(
        number(0, 6.2831854), "tiles are rotated by up to this angle", TRAIN, "radians", also=("rotate",)
    ),
    "flip_prob": Setting(number(0, 1), "probability of mirroring each axis", TRAIN, also=("flip", "mirror")),
    "scale": Setting(
        number(0, below=1), "tiles are scaled by up to this share", TRAIN, also=("zoom", "scaling", "scale_range")
    ),
    "shift_intensity": Setting(
        number(0, 100), "grey values are shifted by up to this many standard deviations", TRAIN, also=("brightness",)
    ),
    "scale_intensity": Setting(number(0, 1), "contrast is changed by up to this share", TRAIN, also=("contrast",)),
    "noise_std": Setting(
        number(0, 100), "standard deviation of the noise, in standard deviations of the image", TRAIN, also=("noise",)
    ),
    "num_workers": Setting(
        whole(0, 1024),
        "processes that prepare tiles; 0: none",
        TRAIN,
        also=("workers", "n_workers", "threads", "num_processes", "processes"),
    ),
    "compile": Setting(switch(), "compile the network by torch.compile, on a GPU", TRAIN),
    "seed": Setting(whole(0, 2**32 - 1), "seed of all random numbers", TRAIN, also=("random_seed", "random_state")),
    "resume": Setting(
        switch(),
        "continue from training_state.pt",
        TRAIN,
        also=("continue", "resume_from", "restart", "from_checkpoint"),
    ),
    "verbose": Setting(
        switch(),
        "show all messages of ignite and MONAI, with time and source",
        ALL,
        also=("debug", "log_level", "loglevel", "quiet"),
    ),
    "is_main": Setting(switch(), "whether the process writes files; set by multi_gpu_train.yaml", TRAIN),
    "weight_decay": Setting(number(0, 1), "weight decay of AdamW, in variant_fast.yaml", TRAIN, also=("wd", "decay")),
    "average_momentum": Setting(
        number(above=0, most=1), "share of the newest weights in the moving average, in variant_fast.yaml", TRAIN
    ),
}
INFERENCE_AND_EVALUATION: dict[str, Setting] = {
    "amp_dtype": Setting(
        choice("auto", "bfloat16", "float16", "float32"),
        "number type of the convolutions",
        ALL,
        also=("amp", "precision", "mixed_precision", "fp16", "half", "dtype"),
    ),
    "orientations": Setting(
        choice(1, 4, 8),
        "flipped and rotated views to average",
        (*EVALUATE, *INFERENCE),
        also=("tta", "augment", "test_time_augmentation"),
    ),
    "tile_size": Setting(
        or_null(whole(1, 1_000_000)),
        "length of input tiles; null: the least work within memory_limit",
        INFERENCE,
        PIXELS,
        also=("patch_size", "tile", "input_size", "roi_size"),
    ),
    "memory_limit": Setting(
        either(whole(2**20), choice("auto")),
        "memory of a batch of tiles; auto: half of the free memory",
        INFERENCE,
        "bytes",
        also=("memory", "max_memory"),
    ),
    "tile_progress": Setting(switch(), "show a bar of the tiles of each image", INFERENCE, also=("progress",)),
    "served_instances": Setting(switch(), "MONAI Label gets object numbers instead of classes", INFERENCE),
    "skip_finished": Setting(switch(), "skip images that have results", INFERENCE, also=("skip_existing",)),
    "save_classes": Setting(switch(), "write class maps", INFERENCE),
    "class_map_values": Setting(
        or_null(listed(GREY, "a list of different grey values from 0 to 255", different=True)),
        "grey value of each class in class maps",
        INFERENCE,
        also=("class_values",),
    ),
    "save_probabilities": Setting(switch(), "write probabilities", INFERENCE, also=("save_prob", "probabilities")),
    "save_instances": Setting(switch(), "write object numbers", INFERENCE, also=("instances", "save_masks")),
    "save_overlays": Setting(switch(), "write pictures of the objects on the image", INFERENCE, also=("overlays",)),
    "overlay_labels": Setting(
        switch(),
        "write the number of each object, as in objects.csv, on the overlays",
        INFERENCE,
        also=("numbers", "show_labels", "object_labels", "label_overlays"),
    ),
    "save_objects": Setting(switch(), "write objects.csv and images.csv", INFERENCE, also=("objects", "csv", "table")),
    "save_uncertainty": Setting(
        switch(),
        "write the entropy of the probabilities and, with several orientations, their standard deviation",
        INFERENCE,
        also=("uncertainty", "entropy", "save_entropy", "deviation"),
    ),
    "em_report": Setting(switch(), "write the report on membranes", EVALUATE),
    "warping_error": Setting(switch(), "compute the warping error in the report on membranes", EVALUATE),
    "object_report": Setting(switch(), "write the report on objects", EVALUATE),
    "save_panels": Setting(switch(), "write pictures of label, prediction and error", EVALUATE, also=("panels",)),
    "save_results": Setting(switch(), "write probabilities and object numbers", EVALUATE),
    "split_name": Setting(text(), "name of the images in the reports", EVALUATE),
}
LARGE_IMAGES: dict[str, Setting] = {  # of large.yaml
    "block_size": Setting(
        whole(64, 65_536), "height and width of the blocks, a multiple of 16", INFERENCE, PIXELS, also=("chunk_size",)
    ),
    "object_halo": Setting(
        whole(1, 65_536), "pixels around a block in which its objects are found", INFERENCE, PIXELS, also=("halo",)
    ),
    "foreground_above": Setting(
        or_null(number(-1e9, 1e9)),
        "grey value; blocks without a pixel above are background",
        INFERENCE,
        also=("skip_empty",),
    ),
    "grey_values": Setting(
        or_null(listed(listed(number(-1e12, 1e12), "two numbers"), "[offset, scale] of each channel")),
        "normalise by these instead of measured values: grey values minus offset, divided by scale",
        INFERENCE,
    ),
    "probability_dtype": Setting(
        choice("uint8", "float16", "float32"), "number type of saved probabilities", INFERENCE
    ),
    "scheduler": Setting(
        or_null(text("local, local:4, tcp://host:8786, or a file of dask scheduler")),
        "processes or computers for the blocks",
        INFERENCE,
        also=("dask", "cluster", "n_workers", "workers"),
    ),
    "overwrite": Setting(
        switch(), "replace a result, and begin unfinished work anew", INFERENCE, also=("force", "exist_ok")
    ),
}

GROUPS = {
    "Input and output": INPUT_AND_OUTPUT,
    "Images, labels and classes": IMAGES_AND_LABELS,
    "Objects": OBJECTS,
    "Training": TRAINING,
    "Inference and evaluation": INFERENCE_AND_EVALUATION,
    "Large images, in large.yaml": LARGE_IMAGES,
}
SETTINGS: dict[str, Setting] = {name: row for group in GROUPS.values() for name, row in group.items()}
