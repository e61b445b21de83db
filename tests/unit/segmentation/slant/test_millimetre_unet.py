"""The 1 mm network: order of cells and voxels, gradients, and where scores are computed."""

import pytest
import torch

from efface.segmentation.slant.millimetre_unet import (
    SCORES,
    MillimetreUNet,
    cell_voxels,
    cells_near,
    fold_normalisation,
    from_cells,
    rows,
)

SHAPE = (32, 48, 16)
NARROW = (8, 8, 8, 8, 8)


@pytest.fixture
def network() -> MillimetreUNet:
    torch.manual_seed(0)
    return MillimetreUNet(NARROW).eval()


def test_voxels_return_to_their_places() -> None:
    values = torch.arange(2 * 32 * 48 * 16).view(2, 1, *SHAPE)
    assert torch.equal(from_cells(cell_voxels(values)[..., 0], (2, *SHAPE)), values[:, 0])


def test_a_cell_holds_eight_neighbours() -> None:
    values = torch.stack(torch.meshgrid(*[torch.arange(n) for n in SHAPE], indexing="ij"))[None]
    cell = cell_voxels(values)[(3 * 24 + 5) * 8 + 2]
    assert cell.tolist() == [[6 + a, 10 + b, 4 + c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]


def test_cells_in_and_beside_the_mask_are_chosen() -> None:
    mask = torch.zeros(1, 1, *SHAPE)
    mask[0, 0, 6, 10, 4] = 1
    chosen = torch.zeros(16 * 24 * 8)
    chosen[cells_near(mask)] = 1
    expected = torch.zeros(16, 24, 8)
    expected[2:5, 4:7, 1:4] = 1
    assert torch.equal(chosen.view(16, 24, 8), expected)


def test_cells_in_the_mask_alone_are_chosen() -> None:
    mask = torch.zeros(1, 1, *SHAPE)
    mask[0, 0, 6, 10, 4] = 1
    assert cells_near(mask, 0).tolist() == [(3 * 24 + 5) * 8 + 2]


def test_gradient_of_chosen_rows_is_right() -> None:
    values = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: rows(v, torch.tensor([4, 1])), (values,))


def test_scores_of_few_cells_are_those_of_all(network: MillimetreUNet) -> None:
    image, position = torch.randn(1, 2, *SHAPE), torch.randn(1, 3, 16, 24, 8)
    with torch.no_grad():
        cells, voxels, _ = network.features(image, position)
        everywhere = network.scores(cells, voxels, torch.arange(16 * 24 * 8))
        few = network.scores(cells, voxels, torch.tensor([1000, 7]))
    assert few.shape == (2, 8, SCORES)
    torch.testing.assert_close(few, everywhere[[1000, 7]])


def test_memory_layout_does_not_change_features(network: MillimetreUNet) -> None:
    image, position = torch.randn(1, 2, *SHAPE), torch.randn(1, 3, 16, 24, 8)
    with torch.no_grad():
        before = network.features(image, position)
        after = network.to(memory_format=torch.channels_last_3d).features(image, position)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_slabs_have_the_features_of_the_whole(network: MillimetreUNet) -> None:
    image, position = torch.randn(1, 2, *SHAPE), torch.randn(1, 3, 16, 24, 8)
    with torch.no_grad():
        cells, fine, _ = network.encode(image, position)
        whole = network.voxel_features(cells, fine)
        for first, last in ((0, 5), (5, 12), (12, 16), (0, 16)):
            part = network.slab_features(cells, fine, slice(first, last))
            torch.testing.assert_close(part, whole[:, :, 2 * first : 2 * last], atol=1e-5, rtol=1e-5)


def test_folded_normalisation_gives_the_same(network: MillimetreUNet) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for value in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(value)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    image, position = torch.randn(1, 2, *SHAPE), torch.randn(1, 3, 16, 24, 8)
    with torch.no_grad():
        before = network.features(image, position)
        after = fold_normalisation(network).features(image, position)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3 * float(a.abs().max()), rtol=0)
