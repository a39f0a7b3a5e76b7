"""The message after a failed workflow: the cause under MONAI's wrappers, out of memory, worker processes."""

from __future__ import annotations

import pytest
import torch
from torch._utils import ExceptionWrapper

from bundle.running.failures import explain


def raised_from(error: Exception, cause: Exception) -> Exception:
    """Raise `error` from `cause` and return `error`."""
    try:
        try:
            raise cause
        except type(cause) as first:
            raise error from first
    except type(error) as second:
        return second


def test_a_message_raised_from_another_error_is_not_replaced_by_it() -> None:
    error = raised_from(ValueError("no images in dataset_dir; set it to a folder with images/"), FileNotFoundError("x"))
    wrapped = raised_from(RuntimeError("Failed to instantiate component 'scripts.data.find_pairs'"), error)
    assert explain(wrapped) == "no images in dataset_dir; set it to a folder with images/"


@pytest.mark.parametrize(
    "text, config, message",
    [
        (
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB",
            {"batch_size": 16, "input_size": 572},
            "the GPU ran out of memory (asked for 2.50 GiB); lower batch_size (16) or input_size (572), or close other "
            "programs that use the GPU",
        ),
        ("", {}, "the GPU ran out of memory; lower memory_limit, or close other programs that use the GPU"),
    ],
)
def test_a_gpu_without_memory_left_is_one_message_with_the_settings_to_lower(
    text: str, config: dict[str, int], message: str
) -> None:
    cause = torch.OutOfMemoryError(text)
    assert explain(raised_from(RuntimeError("Failed to evaluate '$@train#trainer.run()'"), cause), config) == message


def test_the_cause_is_found_in_the_text_of_a_worker_process() -> None:
    try:
        raise raised_from(RuntimeError("applying transform <LoadImaged>"), ValueError("label of 03.png is 512 x 500"))
    except RuntimeError:
        worker = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(RuntimeError, match="Original Traceback") as raised:
        worker.reraise()
    assert explain(raised.value) == "label of 03.png is 512 x 500"
