"""The attack by face recognition, on faces that nobody has: the average one with bumps of its own for each person."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from efface.anatomy import templates
from efface.privacy.face_network import ATTACK, apart, describe
from efface.privacy.placed_head import PlacedHead
from efface.spatial.types import Volume

pytestmark = pytest.mark.skipif(bool(ATTACK.missing()), reason="needs the extra efface[face]")
BUMPS_MM, NOISE_MM = 3.0, 0.05


@functools.cache
def descriptor(person, *, again=False):
    """What the network says of a person; ``again`` with noise in the skin."""
    skin = templates.prior("face_shape")
    signed = skin.data + field(person, 7.0, BUMPS_MM)
    if again:
        signed = signed + field(99, 1.0, NOISE_MM)
    image = (100 * np.clip(0.5 + signed / 4, 0, 1)).astype(np.float32)
    return describe(PlacedHead(Volume(image, skin.affine), np.eye(4)))


def field(seed, width_vox, mm):
    made = ndimage.gaussian_filter(
        np.random.default_rng(seed).standard_normal(templates.prior("face_shape").data.shape), width_vox
    )
    return mm * made / made.std()


def test_a_face_is_found_and_described():
    found = descriptor(1)
    assert found is not None
    assert found.shape == (128,)


def test_the_same_person_is_nearer_than_another():
    same = apart(descriptor(1, again=True), descriptor(1))
    others = [apart(descriptor(1, again=True), descriptor(2)), apart(descriptor(2), descriptor(1))]
    assert same < min(others) / 2


def test_a_head_without_a_face_is_not_described():
    skin = templates.prior("face_shape")
    cut = np.where(skin.affine[1, 3] + skin.affine[1, 1] * np.arange(skin.data.shape[1]) < 20, 1, -1)
    signed = np.minimum(skin.data, 10.0 * cut[None, :, None])  # nothing in front of y = 20 mm
    image = (100 * np.clip(0.5 + signed / 4, 0, 1)).astype(np.float32)
    assert describe(PlacedHead(Volume(image, skin.affine), np.eye(4))) is None
