"""Every method and segmenter has a reference, and the methods paragraph says what was done."""

import dataclasses

import pandas as pd
import pytest

from efface.defacing import METHODS
from efface.report.methods_section import Record, bibliography, citations, paragraph
from efface.segmentation import SEGMENTERS
from efface.study.tables import Tables


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_reference(method):
    assert METHODS[method].citation in citations()


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_every_segmenter_has_references(segmenter):
    assert SEGMENTERS[segmenter].citations
    assert set(SEGMENTERS[segmenter].citations) <= set(citations())


def tables(*tests):
    """Tables of one scan, with rows of these tests."""
    columns = ["scan", "subject", "method", "implementation", "region", "measure", "value", "test"]
    empty = pd.DataFrame(columns=columns)
    dice = pd.DataFrame([["s", "01", "pydeface", "native", "whole brain", "dice", 0.9, ""]], columns=columns)
    statistics = pd.DataFrame({"test": list(tests)})
    given = {field.name: empty for field in dataclasses.fields(Tables)}
    return Tables(**{**given, "dice": dice, "statistics": statistics})


def record(methods=("pydeface", "quickshear"), implementations=None, **settings):
    kinds = {method: ["native"] for method in methods} | (implementations or {})
    return Record({"Methods": list(methods), "Segmenter": "slant", **settings}, "/bids", "0.1.0", {}, {}, kinds)


def test_all_methods_are_cited_and_the_bibliography_is_complete():
    made = record(tuple(METHODS))
    said = paragraph(made, tables())
    for method in METHODS.values():
        assert f"{method.title} [@{method.citation}]" in said
        assert f"{{{method.citation}," in bibliography(made, tables())


def test_a_method_that_is_not_known_is_named_all_the_same():
    assert "reshape (unknown to this version of efface" in paragraph(record(("pydeface", "reshape")), tables())


def test_native_methods_are_called_re_implemented_and_external_programs_external():
    assert "The methods were re-implemented in efface" in paragraph(record(), tables())
    mixed = paragraph(record(implementations={"pydeface": ["original"]}), tables())
    assert "PyDeface [@gulban2022] (external program)" in mixed
    assert "The others were re-implemented" in mixed
    assert "as published" not in mixed


def test_the_test_against_the_rescan_is_the_one_that_is_made():
    """Each subject's effect against that subject's own rescan, one-sided and paired; there is no margin."""
    said = paragraph(record(), tables("noninferiority"))
    assert "one-sided paired Wilcoxon test of each subject's effect against that of the subject's own rescan" in said
    assert "margin" not in said
    assert "non-inferiority" not in said


@pytest.mark.parametrize(("protected", "expected"), [(True, "kept out of every edit"), (False, "was not protected")])
def test_brain_protection_is_stated(protected, expected):
    assert expected in paragraph(record(ProtectBrain=protected), tables())
