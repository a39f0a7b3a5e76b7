"""`python -m bundle COMMAND`: the bundle's own tools, beside those of `python -m monai.bundle`."""

from __future__ import annotations

import sys

from bundle.running.program import WORKFLOWS, Program

COMMANDS = {  # name: (module, line in the list). The module has a function of the same name.
    **WORKFLOWS,
    "report": ("bundle.experiments.report", WORKFLOWS["report"][1]),  # also of experiments
    "sample": ("bundle.datasets.sample", "Make a synthetic electron microscopy data set; no download."),
    "fetch": ("bundle.datasets.fetch", "Download a public data set and verify every file that has a checksum."),
    "verify": ("bundle.publishing.verify", "Check that the bundle is whole and agrees with itself."),
    "pack": ("bundle.publishing.pack", "Write the zip file to publish, in the model zoo's layout."),
    "reproduce": ("bundle.experiments.reproduce", "Train and measure one of the paper's three experiments."),
    "export": ("bundle.publishing.export", "Write the trained network as ONNX, TorchScript, pt2 or TensorRT."),
    "label": ("bundle.labelling.label", "Serve the bundle with MONAI Label, for annotation programs."),
    "bench": ("bundle.bench", "Measure speeds as ratios; write JSON and a Markdown table."),
}
main = Program("python -m bundle", COMMANDS)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
