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


def tables(*tests, p=0.01, low=0.9, verdict=""):
    """Tables of one scan, with rows of these tests, their p and interval, and the scan's verdict."""
    columns = ["scan", "subject", "method", "implementation", "region", "measure", "value", "test", "verdict", "manual"]
    empty = pd.DataFrame(columns=columns)
    dice = pd.DataFrame(
        [["s", "01", "pydeface", "native", "whole brain", "dice", 0.9, "", verdict, ""]], columns=columns
    )
    statistics = pd.DataFrame({"test": list(tests), "method": "pydeface"}).assign(p=p, low=low)
    given = {field.name: empty for field in dataclasses.fields(Tables)}
    return Tables(**{**given, "dice": dice, "statistics": statistics, "quality": dice})


def record(methods=("pydeface", "quickshear"), implementations=None, **settings):
    kinds = {method: ["native"] for method in methods} | (implementations or {})
    return Record({"Methods": list(methods), "Segmenter": "slant", **settings}, "0.1.0", {}, {}, kinds)


def test_all_methods_are_cited_and_the_bibliography_is_complete():
    made = record(tuple(METHODS))
    said = paragraph(made, tables())
    for method in METHODS.values():
        assert f"{method.title} [@{method.citation}]" in said
        assert f"{{{method.citation}," in bibliography(made, tables())


def test_a_method_that_is_not_known_is_named_all_the_same():
    assert "unheard_of (unknown to this version of efface" in paragraph(record(("pydeface", "unheard_of")), tables())


def test_native_methods_are_called_re_implemented_and_external_programs_external():
    assert "The methods were re-implemented in efface" in paragraph(record(), tables())
    mixed = paragraph(record(implementations={"pydeface": ["original"]}), tables())
    assert "PyDeface [@gulban2022] (external program)" in mixed
    assert "The others were re-implemented" in mixed
    assert "as published" not in mixed


def test_the_test_against_the_rescan_is_the_one_that_is_made():
    """Each subject's effect against that subject's own rescan, one-sided and paired; there is no margin."""
    said = paragraph(record(), tables("superiority"))
    assert "two-sided error 10 %" in said
    assert "one-sided paired Wilcoxon test of each subject's effect against that of the subject's own rescan" in said
    assert "margin" not in said
    assert "non-inferiority" not in said


WORDS = {"friedman": "Friedman", "wilcoxon": "signed-rank tests", "mixed model": "mixed models",
         "superiority": "own rescan", "tost": "comes from the same subjects"}  # fmt: skip


@pytest.mark.parametrize("test", WORDS)
def test_only_tests_with_a_p_value_are_mentioned(test):
    said, without = (paragraph(record(), tables(test, p=p)) for p in (0.01, float("nan")))
    assert [word in said for word in WORDS.values()] == [name == test for name in WORDS]
    assert "Holm" in said
    assert not any(word in without for word in (*WORDS.values(), "Holm"))


def test_intervals_are_mentioned_where_there_are_any():
    assert ["bootstrap" in paragraph(record(), tables("summary", low=x)) for x in (0.9, float("nan"))] == [True, False]


def test_the_scans_that_passed_are_mentioned_with_their_paper():
    assert "on the 1 scan that passed the quality check" in paragraph(record(), tables(verdict="Success"))
    assert "@gao2023" not in paragraph(record(), tables(verdict="Failure I"))


@pytest.mark.parametrize(("protected", "expected"), [(True, "kept out of every edit"), (False, "was not protected")])
def test_brain_protection_is_stated(protected, expected):
    assert expected in paragraph(record(ProtectBrain=protected), tables())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "(in the place of SLANT, one network of our own for the whole brain, at 1 mm) [@huo2019; @klein2010]"),
        ({"networks": "tiles"}, "27 networks of our own in its topology, overlapping tiles, at 2 mm) [@huo2019"),
        ({"weights": "/anywhere"}, "SLANT, the 27 published networks on overlapping tiles) [@huo2019"),
        ({"of another": "version"}, "(one network for the whole brain at 1 mm, or the 27 tile networks of SLANT)"),
    ],
)
def test_the_networks_that_were_used_are_named(given, expected):
    assert expected in paragraph(record(SegmenterParameters={"slant": given}), tables())
