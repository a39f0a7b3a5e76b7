"""The table of requests without its server: the content of uploaded files."""

from __future__ import annotations

import pytest

from bundle.labelling.guard.allowed import check_content
from bundle.labelling.guard.keys import Refused

MHA = "ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\n"


@pytest.mark.parametrize("line", ["ElementDataFile = LOCAL", "ElementDataFile: local", " elementdatafile =LOCAL \r"])
def test_headers_with_their_pixels_behind_pass(line: str) -> None:
    check_content("a.mha", f"{MHA}{line}\n".encode() + bytes(4))
    check_content("a.nrrd", f"{NRRD}\n".encode() + bytes(4))


@pytest.mark.parametrize(
    "lines",
    [
        "ElementDataFile : other.raw\nElementDataFile = LOCAL",  # readers take the first line
        "ElementDataFile = other.raw\nElementDataFile = LOCAL",
        "ElementDataFile = LOCAL\nElementDataFile : other.raw",
        "ELEMENTDATAFILE:other.raw\n\nElementDataFile = LOCAL",
        "ElementDataFile = LOCAL : other.raw",
        "Comment = x\rElementDataFile = LOCAL",
        "ElementDataFile = LIST\nother.raw",
        "",
    ],
)
def test_mha_that_may_name_another_file_is_refused(lines: str) -> None:
    with pytest.raises(Refused, match=r"a\.MHA"):
        check_content("a.MHA", f"{MHA}{lines}\n".encode() + bytes(4))


@pytest.mark.parametrize("line", ["data file: other.raw", "DataFile : LIST", "data  file:other.raw", "datafile: x\r"])
def test_nrrd_that_names_another_file_is_refused(line: str) -> None:
    with pytest.raises(Refused, match=r"a\.nrrd"):
        check_content("a.nrrd", f"{NRRD}{line}\n\n".encode())
