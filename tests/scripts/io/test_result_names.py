"""No two images share the name of a result."""

from __future__ import annotations

import pytest

from scripts.io.names import ResultNames


def test_images_of_one_name_are_told_apart_by_folder_and_keep_their_names():
    names = ResultNames()
    addresses = ["01/t000.tif", "02/t000.tif", "01/t001.tif", "01/t000.tif", "02/t000.tif", "x/s.tif#page=3"]
    assert [names.of(address) for address in addresses] == ["t000", "02_t000", "t001", "t000", "02_t000", "s_0003"]
    assert names.of_file("x/s.tif#page=4") == "s"


def test_images_that_differ_in_nothing_but_the_ending_are_refused():
    names = ResultNames()
    names.of("in/a.png")
    with pytest.raises(ValueError, match=r"in/a\.png and in/a\.tif would both be named a: rename one of the images"):
        names.of("in/a.tif")
