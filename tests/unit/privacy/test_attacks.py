"""The contract of every attack, on virtual people: it finds the same person, not another, and nothing in a flat head."""

import functools
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import average_head
from efface.anatomy.background import dark_air
from efface.anatomy.skin import skin_threshold
from efface.errors import InputError, MissingDependencyError
from efface.io.scan import load_scan
from efface.privacy import face_network
from efface.privacy.controls import BOX_HIGH_MM, BOX_LOW_MM, cut_flat, noisy
from efface.privacy.geometry import face_points
from efface.privacy.placed_head import PlacedHead
from efface.privacy.registry import ATTACKS, chosen_attacks
from efface.spatial.types import Volume

PEOPLE = (1, 2, 3)


@pytest.fixture(scope="module")
def people():
    """Virtual people, upright in their own place, and the first of them again with noise and shifted by 7 mm."""
    heads = {seed: PlacedHead(average_head.person(seed, mm=4.0), np.eye(4)) for seed in PEOPLE}
    one = heads[1].image
    noise = np.random.default_rng(0).standard_normal(one.data.shape).astype(np.float32)
    shifted = one.affine.copy()
    shifted[:3, 3] += [3, 5, 4]
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 2]  # wrong by some mm, as found poses are
    data = np.where(one.data > 0, one.data + 0.02 * one.data.max() * noise, 0).astype(np.float32)
    return {**heads, "again": PlacedHead(Volume(data, shifted), pose), "flat": cut_flat(heads[1])}


@pytest.fixture(scope="module", params=ATTACKS)
def attack(request):
    """An attack that looks at each head once."""
    if why := ATTACKS[request.param].missing():
        pytest.skip(why)
    record = ATTACKS[request.param]
    return replace(record, enrol=functools.cache(record.enrol), look=functools.cache(record.look))


def test_the_same_person_is_nearer_than_others(people, attack):
    gallery = [attack.enrol(people[seed]) for seed in PEOPLE]
    if any(kept is None for kept in gallery):
        pytest.skip("virtual people have no face that this attack recognises")
    found = [attack.distance(attack.look(people["again"]), kept) for kept in gallery]
    assert min(found) == found[0]
    assert found[0] < 0.7 * found[1]
    assert np.isfinite(found).all()


def test_another_person_is_not_taken_for_the_first(people, attack):
    gallery = [attack.enrol(people[seed]) for seed in PEOPLE]
    if any(kept is None for kept in gallery):
        pytest.skip("virtual people have no face that this attack recognises")
    found = [attack.distance(attack.look(people[3]), kept) for kept in gallery]
    assert np.argmin(found) == 2


def test_a_flat_head_is_like_nobody(people, attack):
    seen = attack.look(people["flat"])
    if (
        seen is not None
    ):  # a network finds no face in it; on every head it lies so far inside that no fit reaches the skin
        found = [attack.distance(seen, attack.enrol(people[seed])) for seed in PEOPLE]
        assert np.ptp(found) < 0.1 * min(found)
        assert min(found) > 2 * attack.distance(attack.look(people["again"]), attack.enrol(people[1]))


def test_what_is_seen_can_be_sent_to_another_process(people, attack):
    kept, seen = (pickle.loads(pickle.dumps(make(people[1]))) for make in (attack.enrol, attack.look))
    if kept is not None and seen is not None:
        assert attack.distance(seen, kept) == attack.distance(attack.look(people[1]), attack.enrol(people[1]))


def test_records_are_complete_and_documented():
    page = (Path(__file__).parents[3] / "docs/how-to/privacy.md").read_text(encoding="utf-8")
    for name, attack in ATTACKS.items():
        assert name == attack.name
        assert attack.title
        assert attack.summary
        assert attack.reference
        assert f"`{name}`" in page


def test_the_face_region_ends_at_the_brows(people):
    points = face_points(people[1])
    assert points[:, 2].max() <= -15
    assert points[:, 1].min() >= 0


def test_all_attacks_that_can_be_run_are_the_default(monkeypatch):
    monkeypatch.setattr(face_network.importlib.util, "find_spec", lambda name: None)
    assert [attack.name for attack in chosen_attacks(())] == ["geometry_face", "geometry_head"]
    with pytest.raises(MissingDependencyError, match=r"efface\[face\]"):
        chosen_attacks(("face_network",))


def test_an_unknown_attack_is_refused():
    with pytest.raises(InputError, match="geometry_face, geometry_head, face_network; received 'guess'"):
        chosen_attacks(("guess",))


def test_a_flat_head_is_one_box_of_one_intensity(people):
    flat = people["flat"]
    values = np.unique(flat.image.data)
    assert len(values) == 2
    ml = (flat.image.data > 0).sum() * abs(np.linalg.det(flat.image.affine[:3, :3])) / 1000
    assert ml == pytest.approx(np.prod(np.subtract(BOX_HIGH_MM, BOX_LOW_MM)) / 1000, rel=0.1)


def test_noise_is_drawn_from_the_scan():
    scan = average_head.anatomy().scan
    once, again = noisy(scan), noisy(scan)
    np.testing.assert_array_equal(once.data, again.data)
    bright = np.percentile(scan.data, 99)
    tissue = scan.data > bright / 2
    assert (once.data - scan.data)[tissue].std() / bright == pytest.approx(0.03, rel=0.05)


@pytest.mark.parametrize("air", [0.0, -1000.0])
def test_noise_lifts_the_air_as_that_of_a_magnitude_image_does_and_the_skin_is_found_where_it_was(air):
    scan = average_head.anatomy().scan
    moved = load_scan(nib.Nifti1Image(scan.data + np.float32(air), scan.affine))
    again = noisy(moved)
    sigma = 0.03 * np.percentile(scan.data, 99)
    outside = scan.data == 0
    assert again.data.min() >= air - 1e-3
    assert (again.data[outside] - air).mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh
    assert skin_threshold(dark_air(again)) == pytest.approx(skin_threshold(dark_air(moved)), rel=0.08)
