"""Compute the energy of Eq. 1 (arXiv 1505.04597): softmax cross-entropy for each pixel, weighted by a map w(x)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_choice
from .inferers.precision import at_least_single

REDUCTIONS = ("mean", "weighted_mean", "sum", "none")


class WeightedCrossEntropyLoss(nn.Module):
    """Multiply the cross-entropy of each pixel by its weight: E = - sum_x w(x) log p_l(x)(x).

    The printed Eq. 1 lacks the minus sign, which is assumed to be meant. Pixels of weight 0 are not annotated. They
    count neither in the sum nor in the divisor. A batch without annotated pixels gives 0.

    Args:
        reduction: "mean": over the annotated pixels of the batch (w > 0). "weighted_mean": divided by the sum of the
            weights, as torch does for class weights. "sum": Eq. 1 as written. "none": the map (B, 1, *spatial).

    Shape:
        input: scores before the softmax (B, K, *spatial), any floating dtype, computed in at least float32. K = 1 is a
            sigmoid output for the classes 0 and 1.
        target: class of each pixel (B, 1, *spatial), any dtype, whole numbers 0 ... K - 1, negative = not annotated.
            With weight 0, any number is allowed. Or class and weight stacked (B, 2, *spatial), because MONAI's trainer
            passes a single target.
        weight: (B, 1, *spatial), at least 0. None: 1 everywhere, which equals `torch.nn.CrossEntropyLoss`.

    Raises:
        ValueError: an unknown reduction, shapes that do not agree, or classes beyond K - 1.

    Example:
        >>> scores, label = torch.zeros(1, 2, 1, 2), torch.tensor([[[[0, 1]]]])
        >>> WeightedCrossEntropyLoss("sum")(scores, label, torch.tensor([[[[3.0, 1.0]]]]))  # 4 log 2
        tensor(2.7726)
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction = reduction

    def forward(self, input: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the scalar energy, or the map for reduction "none". The class documents the shapes."""
        target, weight = _split_target(input, target, weight)
        label = target.long()
        annotated = label >= 0 if weight is None else (label >= 0) & (weight > 0)
        label = label.masked_fill(~annotated, 0)
        _check_classes(label, input.shape[1])

        scores = at_least_single(input)
        if scores.shape[1] == 1:
            energy = F.binary_cross_entropy_with_logits(scores, label.to(scores.dtype), reduction="none")
        else:
            energy = F.cross_entropy(scores, label[:, 0], reduction="none")[:, None]  # (B, 1, *spatial)
        w = annotated.to(scores.dtype) if weight is None else weight.to(scores.dtype) * annotated
        # without `where`, an infinite energy times weight 0 would be NaN
        energy = torch.where(annotated, energy * w, energy.new_zeros(()))

        if self.reduction == "none":
            return energy
        if self.reduction == "sum":
            return energy.sum()
        divisor = annotated.sum() if self.reduction == "mean" else w.sum()
        return energy.sum() / torch.where(divisor > 0, divisor, torch.ones_like(divisor))


def _split_target(
    input: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Get label and weight, given separately or stacked, and check both against the shape of the scores."""
    if weight is None and target.ndim > 1 and target.shape[1] == 2:
        target, weight = target[:, :1], target[:, 1:]
    expected = (input.shape[0], 1, *input.shape[2:])
    for name, tensor in (("target", target), ("weight", weight)):
        if tensor is not None and tuple(tensor.shape) != expected:
            raise ValueError(
                f"WeightedCrossEntropyLoss: scores {tuple(input.shape)} need a {name} of shape {expected}, "
                f"got {tuple(tensor.shape)}. Crop labels and weights to the output of the network."
            )
    return target, weight


def _check_classes(label: torch.Tensor, classes: int) -> None:
    """Refuse classes beyond the network's. On a GPU, torch's assertion does so without waiting for the GPU."""
    if label.device.type == "cpu" and not torch.compiler.is_compiling():
        highest = int(label.max()) if label.numel() else 0
        if highest >= max(classes, 2):
            raise ValueError(
                f"WeightedCrossEntropyLoss: found class {highest}, but the network gives {classes} scores a pixel. "
                "Set out_channels or map the label values."
            )
