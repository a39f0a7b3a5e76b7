"""nnU-Net version 2, configuration 2d, with nnU-Net's planner, preprocessing, trainer and mirrored predictions.

A subclass of the trainer ends after the minutes of the job, and the polynomial learning rate falls over these minutes.
The last weights are kept, as in nnU-Net. Instances are connected components of the foreground.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.peers.job import Clock, Job, components, read_job

NUMBER, NAME = 1, "Dataset001_peers"
FOLDERS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


def main() -> None:
    """Train and predict the job of the command line."""
    job = read_job()
    work = Path(job.out) / "nnunet"
    os.environ |= {name: str(work / folder) for name, folder in FOLDERS.items()}
    os.environ |= {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}
    import numpy as np
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    clock = Clock(job)
    write_raw(job, work / "raw" / NAME)
    extract_fingerprints([NUMBER], num_processes=1, show_progress_bar=False)
    plans_name = plan_experiments([NUMBER], gpu_memory_target_in_gb=job.settings.get("gpu_memory", 8))
    preprocess_dataset(NUMBER, plans_name, ("2d",), (1,), show_progress_bar=False)
    prepared = work / "preprocessed" / NAME
    names = {part: [Path(image).stem for image, _ in getattr(job, part)] for part in ("training", "chosen")}
    (prepared / "splits_final.json").write_text(json.dumps([{"train": names["training"], "val": names["chosen"]}]))

    class TimedTrainer(nnUNetTrainer):
        """Trains until the clock is over."""

        def run_training(self) -> None:
            os.environ |= {"nnUNet_n_proc_DA": "0"}  # tiles are made in this process; the planner needs 1
            self.on_train_start()
            self.network.train()
            clock.start()
            while not clock.over:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - clock.share) ** 0.9
                self.train_step(next(self.dataloader_train))
                clock.step(predict)

    plans = json.loads((prepared / f"{plans_name}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((prepared / "dataset.json").read_text())
    trainer = TimedTrainer(plans, "2d", 0, dataset, device=torch.device("cpu"))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)

    def predict(image: np.ndarray) -> np.ndarray:
        trainer.set_deep_supervision_enabled(False)
        trainer.network.eval()
        state = {key: value.clone() for key, value in trainer.network.state_dict().items()}
        mirroring = trainer.inference_allowed_mirroring_axes
        managers = trainer.plans_manager, trainer.configuration_manager
        predictor.manual_initialization(trainer.network, *managers, [state], dataset, "TimedTrainer", mirroring)
        image = image[None, None].astype(np.float32)
        _, probabilities = predictor.predict_single_npy_array(image, {"spacing": (999, 1, 1)}, None, None, True)
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        found = np.asarray(probabilities)[1, 0]
        return found if job.task == "em" else components(found)

    trainer.initialize()
    trainer.run_training()
    planned = {key: plans["configurations"]["2d"][key] for key in ("batch_size", "patch_size")}
    clock.finish(predict, ["nnunetv2", "torch", "numpy"], plans=planned)


def write_raw(job: Job, folder: Path) -> None:
    """Write the training and chosen images in nnU-Net's layout, with foreground 1."""
    import numpy as np
    from PIL import Image

    files = [*job.training, *job.chosen]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for (path, _), (image, labels) in zip(files, job.pairs(files), strict=True):
        Image.fromarray(image.astype(np.uint8)).save(folder / "imagesTr" / f"{Path(path).stem}_0000.png")
        Image.fromarray((labels > 0).astype(np.uint8)).save(folder / "labelsTr" / f"{Path(path).stem}.png")
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "cell": 1},
        "numTraining": len(files),
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
