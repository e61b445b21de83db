"""Votes are never lost: not to a kill, not to a full disk, not to each other."""

import json
import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from efface.bids.derivatives import UnitPaths
from efface.errors import InputError, OutputError
from efface.study import ratings
from efface.study.ratings import (
    Rating,
    append_rating,
    blind_ratings,
    current_ratings,
    fingerprint,
    ratings_path,
    read_ratings,
)

VOTE = Rating("2022-01-01T00:00:00Z", "Ann", "01", "1", "sub-01_ses-1", "quickshear", "Success")


def write_votes(out_dir, name, told):
    """Append votes and tell the number of each that is there, until killed."""
    vote = Rating("t", name, "01", "1", "sub-01_ses-1", "quickshear", "Success")
    for n in range(100_000):
        append_rating(out_dir, replace(vote, note=f"{n} " + "x" * 500))
        os.write(told, f"{n}\n".encode())


def test_a_vote_comes_back_as_given(tmp_path):
    odd = replace(VOTE, reviewer="Zoë <b>", note='tab\t, "quotes", newline\n, \u2028 and 脳', automatic_shown=True)
    append_rating(tmp_path, odd)
    assert read_ratings(tmp_path) == ratings.RatingLog((odd,), 0)
    assert ratings_path(tmp_path).read_bytes().count(b"\n") == 1


def test_no_file_is_no_votes(tmp_path):
    assert read_ratings(tmp_path) == ratings.RatingLog((), 0)
    assert current_ratings(tmp_path) == []


def test_the_last_vote_counts_and_the_first_stays_on_the_disk(tmp_path):
    for verdict in ("Success", "Failure II", "Failure I"):
        append_rating(tmp_path, replace(VOTE, verdict=verdict))
    assert [v.verdict for v in current_ratings(tmp_path)] == ["Failure I"]
    assert len(read_ratings(tmp_path).ratings) == 3


def test_a_blind_vote_stays_where_it_is_changed_after_the_verdict_was_shown_and_goes_where_it_is_taken_back(tmp_path):
    append_rating(tmp_path, VOTE)
    append_rating(tmp_path, replace(VOTE, verdict="Failure I", automatic_shown=True))
    assert [v.verdict for v in blind_ratings(tmp_path)] == ["Success"]
    assert [v.verdict for v in current_ratings(tmp_path)] == ["Failure I"]
    append_rating(tmp_path, replace(VOTE, verdict="", automatic_shown=True))
    append_rating(tmp_path, replace(VOTE, verdict="Failure I", automatic_shown=True))
    assert blind_ratings(tmp_path) == []
    assert [v.verdict for v in current_ratings(tmp_path)] == ["Failure I"]


def test_a_vote_can_be_taken_back(tmp_path):
    for verdict in ("Success", ""):
        append_rating(tmp_path, replace(VOTE, verdict=verdict))
    assert current_ratings(tmp_path) == []


def test_each_reviewer_and_case_is_apart(tmp_path):
    others = [replace(VOTE, reviewer="Bo"), replace(VOTE, method="pydeface"), replace(VOTE, scan="sub-01_ses-2")]
    for vote in (VOTE, *others):
        append_rating(tmp_path, vote)
    assert len(current_ratings(tmp_path)) == 4


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_is_counted_left_out_and_does_not_spoil_the_next(tmp_path, cut):
    append_rating(tmp_path, VOTE)
    append_rating(tmp_path, replace(VOTE, method="pydeface"))
    path = ratings_path(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    torn = 0 if cut == 1 else 1  # only the line's end is missing: all of it is there
    assert (len(read_ratings(tmp_path).ratings), read_ratings(tmp_path).broken) == (2 - torn, torn)
    append_rating(tmp_path, replace(VOTE, method="defacer"))
    log = read_ratings(tmp_path)
    assert (log.ratings[-1].method, len(log.ratings), log.broken) == ("defacer", 3 - torn, torn)


UNKNOWN_VERDICT, NUMBER_AS_NOTE = (json.dumps({**asdict(VOTE), **odd}) for odd in ({"verdict": "fine"}, {"note": 3}))


@pytest.mark.parametrize("line", ["[]", "{}", "7", '"Success"', UNKNOWN_VERDICT, NUMBER_AS_NOTE])
def test_a_line_that_is_no_vote_is_counted(tmp_path, line):
    append_rating(tmp_path, VOTE)
    with ratings_path(tmp_path).open("a") as file:
        file.write(line + "\n")
    assert read_ratings(tmp_path) == ratings.RatingLog((VOTE,), 1)


def test_fields_of_a_later_version_are_passed_over(tmp_path):
    ratings_path(tmp_path).parent.mkdir()
    ratings_path(tmp_path).write_text(json.dumps({**asdict(VOTE), "mood": "good"}) + "\n")
    assert read_ratings(tmp_path) == ratings.RatingLog((VOTE,), 0)


def test_a_vote_on_an_image_that_was_made_anew_does_not_count(tmp_path):
    defaced = UnitPaths(tmp_path, "01", "1", "sub-01_ses-1").defaced("quickshear")
    defaced.parent.mkdir(parents=True)
    defaced.write_bytes(b"the first image")
    append_rating(tmp_path, replace(VOTE, image=fingerprint(defaced)))
    assert len(current_ratings(tmp_path)) == 1
    defaced.write_bytes(b"the second image!")
    assert current_ratings(tmp_path) == []


@pytest.mark.parametrize("name", ["", " Ann", "a\nb", "x" * 61, "\u202eevil"])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="reviewer's name"):
        append_rating(tmp_path, replace(VOTE, reviewer=name))
    assert not ratings_path(tmp_path).exists()


def test_an_unknown_verdict_or_an_endless_note_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be one of Success"):
        append_rating(tmp_path, replace(VOTE, verdict="OK"))
    with pytest.raises(InputError, match="2000 characters"):
        append_rating(tmp_path, replace(VOTE, note="x" * 2001))


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path):
    ratings_path(tmp_path).mkdir(parents=True)
    with pytest.raises(OutputError, match="rating not saved"):
        append_rating(tmp_path, VOTE)


def test_a_vote_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(ratings.os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size) or fsync(fd))
    append_rating(tmp_path, VOTE)
    assert ratings_path(tmp_path).stat().st_size in synced


def test_a_kill_at_any_moment_loses_no_vote_that_was_given(tmp_path):
    rng = random.Random(0)
    given = {}
    for round_ in range(6):
        name = f"r{round_}"
        heard, told = os.pipe()
        writer = multiprocessing.get_context("fork").Process(target=write_votes, args=(tmp_path, name, told))
        writer.start()
        os.close(told)
        with os.fdopen(heard) as said:
            said.readline()
            time.sleep(rng.uniform(0, 0.15))
            os.kill(writer.pid, signal.SIGKILL)
            numbers = said.read().split()
        writer.join()
        given[name] = int(numbers[-1]) if numbers else 0
    log = read_ratings(tmp_path)
    assert log.broken <= 6
    for name, last in given.items():
        numbers = [int(v.note.split()[0]) for v in log.ratings if v.reviewer == name]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= last + 1


def _write_many(out_dir: Path, name: str) -> None:
    for n in range(150):
        append_rating(out_dir, replace(VOTE, reviewer=name, note=f"{n} " + "x" * 1500))


def test_two_reviewers_at_once_lose_nothing(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_write_many, [tmp_path] * 2, ["Ann", "Bo"]))
    log = read_ratings(tmp_path)
    assert (len(log.ratings), log.broken) == (300, 0)
    for name in ("Ann", "Bo"):
        assert [int(v.note.split()[0]) for v in log.ratings if v.reviewer == name] == list(range(150))
