"""Dates of a data set: removed, moved, kept."""

import pytest

from efface.errors import InputError
from efface.share import dates

TABLE = [
    ["filename", "acq_time", "operator"],
    ["a.nii.gz", "2019-03-01T10:00:00", "n/a"],
    ["b.nii.gz", "2019-03-02T11:00:00.5", "n/a"],
    ["c.nii.gz", "n/a", "n/a"],
]


def test_columns_of_dates_go_whatever_their_name():
    table = [["id", "visit", "note", "born_date", "age"], ["1", "2019-03-01", "2019", "2001-01-01", "40"]]
    table.append(["2", "2019-04-01", "none", "unknown", "50"])
    kept, gone = dates.without_dates(table)
    assert gone == ["visit", "born_date"]
    assert kept[0] == ["id", "note", "age"]


@pytest.mark.parametrize(
    "value", ["02/01/1989", "4.3.19", "4-Mar-2019", "4 Mar 2019", "March 4, 2019", "20190304", "2019/3/4"]
)
def test_dates_as_people_write_them_are_dates(value):
    assert dates.without_dates([["id", "x"], ["1", value]]) == ([["id"], ["1"]], ["x"])


@pytest.mark.parametrize("value", ["40", "3.5", "1-2", "left hand 3", "12345678", "1.5", "rest", "5ms100"])
def test_other_values_are_no_dates(value):
    assert dates.dated_columns([["id", "x"], ["1", value]]) == []


def test_a_column_of_acquisition_times_goes_without_a_date_in_it():
    assert dates.without_dates([["filename", "acq_time"], ["a", "n/a"]]) == ([["filename"], ["a"]], ["acq_time"])


def test_moved_dates_keep_their_intervals_and_clock_times():
    moved = dates.shifted(TABLE, -400)
    assert [row[1] for row in moved[1:]] == ["2018-01-25T10:00:00", "2018-01-26T11:00:00.5", "n/a"]
    assert TABLE[1][1] == "2019-03-01T10:00:00"
    assert dates.days_between(TABLE, moved) == -400


@pytest.mark.parametrize("value", ["1 March 2019", "2019-02-30T10:00:00", "0001-01-01"])
def test_what_cannot_be_moved_becomes_missing(value):
    moved = dates.shifted([["filename", "acq_time"], ["a", value]], -400)
    assert moved[1] == ["a", "n/a"]


def test_where_no_date_is_in_both_nothing_is_known():
    assert dates.days_between(TABLE, [["filename"], ["a.nii.gz"]]) is None
    assert dates.days_between([["filename"], ["a.nii.gz"]], TABLE) is None


def test_days_are_drawn_into_the_past_and_differ():
    drawn = {dates.draw_days() for _ in range(50)}
    assert len(drawn) > 30
    assert all(-dates.MOST_DAYS <= days <= -dates.LEAST_DAYS for days in drawn)


def test_sidecars_lose_keys_with_dates_in_name_or_value():
    content = {
        "AcquisitionDate": "x",
        "SeriesDate": 1,
        "AcquisitionTime": "10:00",
        "Scanned": "2019-03-01",
        "EchoTime": 1,
    }
    kept, gone = dates.undated(content)
    assert kept == {"EchoTime": 1}
    assert len(gone) == 4


def test_a_table_that_is_no_text_and_an_unknown_policy_are_refused():
    with pytest.raises(InputError, match="not text"):
        dates.read_table(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="remove, shift, keep"):
        dates.check_policy("hide")


def test_a_table_reads_back_as_it_was_written_with_quotes_and_a_byte_order_mark():
    content = b'filename\tnote\na\t"said\n'
    assert dates.write_table(dates.read_table(b"\xef\xbb\xbf" + content)) == content
