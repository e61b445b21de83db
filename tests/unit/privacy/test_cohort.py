"""A cohort under attack: who is compared with whom, what the controls decide, and that no scan vanishes."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from efface.errors import InputError
from efface.privacy import looks as looking
from efface.privacy.attack import Attack
from efface.privacy.cohort import ANOTHER_SCAN, NOT_ATTACKED, NOTHING, SAME_SCAN, Cohort
from efface.privacy.looks import FLAT, ORIGINAL, UNTOUCHED, HeadFile, Look, look_at

NAMES = [f"{i:02d}" for i in range(8)]
ATTACK = Attack(
    name="number", title="Number", summary="a number", reference="nobody", enrol=lambda head: head,
    look=lambda head: head, distance=lambda one, other: abs(one - other) + 1e-3,
)  # fmt: skip


def file(subject, method=ORIGINAL, session=""):
    return HeadFile(subject, session, f"sub-{subject}{session}", method, Path(f"{subject}{session}.nii"), "native")


@pytest.fixture
def stand_in(monkeypatch):
    """Heads are numbers: person i is 10 i, a session adds 1, `gone` removes the person; returns the faults to plant."""
    faults = {}

    def load(path):
        subject, session = path.stem[:2], path.stem[2:]
        if why := faults.get(path.stem):
            raise InputError(why)
        return 10.0 * int(subject) + (1.0 if session else 0.0)

    monkeypatch.setattr(looking, "load_scan", load)
    monkeypatch.setattr(looking, "noisy", lambda scan: scan + 0.5)
    monkeypatch.setattr(looking, "place", Head)
    monkeypatch.setattr(looking, "cut_flat", lambda head: Head(faults.get("flat", 1000.0)))
    monkeypatch.setattr(looking, "ATTACKS", {"number": ATTACK})
    return faults


class Head(float):
    doubt = ""


def measure(originals, defaced):
    cohort = Cohort(originals, defaced)
    seen = list(cohort.look([ATTACK]))
    return cohort.compare(seen, [ATTACK])


def group(found, method, gallery_scan=SAME_SCAN):
    (one,) = [g for g in found.groups if (g.method, g.gallery_scan) == (method, gallery_scan)]
    return one


def test_scans_that_kept_the_person_are_found_and_the_controls_pass(stand_in):
    found = measure([file(n) for n in NAMES], [file(n, "quickshear") for n in NAMES])
    assert group(found, "quickshear").found.rank1 == 1
    assert group(found, UNTOUCHED).found.rank1 == 1
    assert group(found, FLAT).found.rank1 == pytest.approx(1 / 8)
    assert group(found, "quickshear").unusable == ""
    assert {p.gallery_scan for p in found.probes} == {SAME_SCAN}


def test_a_defaced_scan_of_somebody_else_is_not_found(stand_in):
    defaced = [replace(file(n, "quickshear"), path=file(NAMES[i - 1]).path) for i, n in enumerate(NAMES)]
    found = measure([file(n) for n in NAMES], defaced)
    assert group(found, "quickshear").found.rank1 == 0
    assert all(p.rank > 1 for p in found.probes if p.file.method == "quickshear")


def test_an_attack_that_does_not_find_untouched_scans_cannot_be_used(stand_in, monkeypatch):
    monkeypatch.setattr(looking, "noisy", lambda scan: 30.0)
    found = measure([file(n) for n in NAMES], [file(n, "quickshear") for n in NAMES])
    assert "untouched" in group(found, "quickshear").unusable
    assert "12%" in group(found, "quickshear").unusable


def test_an_attack_that_finds_flat_heads_cannot_be_used(stand_in, monkeypatch):
    monkeypatch.setattr(looking, "cut_flat", lambda head: head)
    found = measure([file(n) for n in NAMES], [file(n, "quickshear") for n in NAMES])
    assert "cut flat" in group(found, "quickshear").unusable


def test_a_scan_that_cannot_be_attacked_is_a_row_with_its_reason_and_counts(stand_in):
    broken = replace(file("03", "quickshear"), path=Path("03x.nii"))
    stand_in["03x"] = "no head was found"
    defaced = [broken if n == "03" else file(n, "quickshear") for n in NAMES]
    found = measure([file(n) for n in NAMES], defaced)
    (row,) = [p for p in found.probes if p.status == NOT_ATTACKED]
    assert (row.file.subject, row.reason) == ("03", "no head was found")
    result = group(found, "quickshear").found
    assert (result.probes, result.not_attacked) == (8, 1)
    assert result.rank1 == pytest.approx(7 / 8)
    assert result.rank1_high == pytest.approx(1.0)


def test_a_person_whose_original_cannot_be_used_is_counted_too(stand_in):
    stand_in["05"] = "not an image"
    defaced = [replace(file(n, "quickshear"), path=Path(f"{n}d.nii")) for n in NAMES]
    found = measure([file(n) for n in NAMES], defaced)
    (row,) = [p for p in found.probes if p.file.method == "quickshear" and p.status == NOT_ATTACKED]
    assert "not in the gallery: not an image" in row.reason
    assert row.gallery == 7


def test_a_probe_with_nothing_left_says_so(stand_in, monkeypatch):
    monkeypatch.setattr(looking, "ATTACKS", {"number": replace(ATTACK, look=lambda head: None if head == 20 else head)})
    found = measure([file(n) for n in NAMES], [file(n, "quickshear") for n in NAMES])
    (row,) = [p for p in found.probes if p.status == NOTHING and p.file.method == "quickshear"]
    assert row.file.subject == "02"
    assert np.isnan(row.rank)
    assert group(found, "quickshear").found.rank1 == pytest.approx(7 / 8)


def test_another_session_is_compared_apart_and_without_noise(stand_in):
    originals = [file(n) for n in NAMES] + [file(n, session="b") for n in NAMES[:6]]
    defaced = [file(n, "quickshear") for n in NAMES] + [file(n, "quickshear", "b") for n in NAMES[:6]]
    found = measure(originals, defaced)
    again = group(found, "quickshear", ANOTHER_SCAN).found
    assert (again.probes, again.people, again.gallery, again.rank1) == (6, 6, 8, 1)
    own = [p.own for p in found.probes if (p.gallery_scan, p.file.method) == (ANOTHER_SCAN, UNTOUCHED)]
    np.testing.assert_allclose(own, 1 + 1e-3)
    assert group(found, "quickshear").found.probes == 8


def test_too_few_people_are_refused(stand_in):
    with pytest.raises(InputError, match="originals of 2 people were found; an attack needs at least 3"):
        Cohort([file("01"), file("02"), file("02", session="b")], [file("01", "quickshear")])


def test_a_dead_process_is_the_doing_of_the_scan_that_dies_alone(monkeypatch):
    """Processes stand in: one scan ends its process, and with it the pool and all that was not done."""

    class Pool:
        def __init__(self, jobs):
            self.jobs, self.broken = jobs, False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def submit(self, function, one, attacks, **_):
            self.broken |= one.subject == "03" or (self.jobs > 1 and one.subject == "02")
            task = Future()
            if self.broken:
                task.set_exception(BrokenProcessPool())
            else:
                task.set_result(Look(one))
            return task

    monkeypatch.setattr(looking, "_pool", Pool)
    files = [file(f"{number:02d}") for number in range(1, 7)]
    found = list(looking.looks(files, ("number",), frozenset(), 2))
    assert [look.file.subject for look in found] == ["01", "02", "03", "04", "05", "06"]
    assert [look.file.subject for look in found if look.reasons] == ["03"]
    assert found[2].reason("number", ORIGINAL) == looking.LOST


def test_an_original_is_looked_at_in_three_roles(stand_in):
    look = look_at(file("02"), ("number",), add_noise=True)
    assert {role: float(seen) for (_, role), seen in look.seen.items()} == {ORIGINAL: 20, UNTOUCHED: 20.5, FLAT: 1000}
