"""Reading and writing SLANT weights: the 27 published PyTorch state dicts, or our own networks with a model card.

The published networks have 2 GB together, so each is read when its tile is predicted. Our own networks stay in memory.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from efface.errors import InputError, one_line
from efface.io.absent_content import check_content
from efface.io.atomic import write_atomically
from efface.io.json_files import parse_json
from efface.io.untrusted import read_limited, refusing
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.label_prior import BlockPrior, LabelPrior, load_label_prior
from efface.segmentation.slant.preprocessing import QUANTILES
from efface.segmentation.slant.state_dicts import check_tensors, open_state, read_tensors
from efface.segmentation.slant.tiling import EMBEDDED, PUBLISHED, Geometry, block_in
from efface.segmentation.slant.unet import PUBLISHED_ARCHITECTURE, Architecture, TileNet, UNet3D, device, load_published
from efface.segmentation.slant.weights_folder import CARD, LABEL_PRIOR, POOLED, PUBLISHED_PATHS
from efface.spatial.types import FloatVolume

FORMAT = 1
"""Of `CARD`."""
LARGEST_CARD = 2**22
LAYERS, WIDEST = (8, 9), 512
"""Layers of encoder and decoder; channels of the published network's widest layer."""


class TileModel(Protocol):
    """Networks of all tiles, as `efface.segmentation.slant.pipeline` uses them."""

    @property
    def geometry(self) -> Geometry:
        """The tiles the networks were trained on."""

    @property
    def target(self) -> NDArray[np.float64] | None:
        """Intensity quantiles of the training heads, at `QUANTILES`; None for networks that need no fit."""

    @property
    def stripped(self) -> bool:
        """Whether the networks see the brain only."""

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        """Predict label indices from the normalised intensities of a tile, same shape."""


TileProbabilities = list[tuple[int, NDArray[np.float32]]]
"""For each block in a tile: its number in `LabelPrior.blocks`, and probabilities of shape (voxels, channels)."""


class PublishedWeights:
    """The published SLANT-27 networks.

    Parameters
    ----------
    folder
        Holds 27 state dicts, see `PUBLISHED_PATHS`.
    architecture, geometry
        Tests use smaller networks and other tiles.

    Raises
    ------
    InputError
        If a file is missing, or its content is not here.
    """

    target: NDArray[np.float64] | None = None
    """The published quantiles are not distributed. They are not needed: scaling to 0 to 255 undoes any linear map."""
    stripped = False

    def __init__(
        self, folder: Path, architecture: Architecture = PUBLISHED_ARCHITECTURE, geometry: Geometry = PUBLISHED
    ) -> None:
        self.folder, self.architecture, self.geometry = folder, architecture, geometry
        self.files = {name: self._find(name) for name in geometry.names}

    def _find(self, name: str) -> Path:
        places = [self.folder / pattern.format(name=name) for pattern in PUBLISHED_PATHS]
        for path in places:
            check_content(path)
            if path.is_file():
                return path
        msg = (
            f"SLANT weights in {self.folder}: no state dict of tile {name}; expected {places[1]} or {places[0]}: "
            "give the folder that holds all 27"
        )
        raise InputError(msg)

    def network(self, name: str) -> UNet3D:
        """Read the network of a tile.

        Raises
        ------
        InputError
            If the state dict cannot be read or is not the published network's.
        """
        path = self.files[name]
        return load_published(open_state(path, lambda: UNet3D(self.architecture)), str(path), self.architecture)

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        """Predict label indices from the normalised intensities of a tile, same shape.

        Raises
        ------
        InputError
            As `network`.
        """
        network = self.network(name)
        low, high = float(tile.min()), float(tile.max())
        scaled = (tile - low) * (255 / (high - low) if high > low else 0)
        batch = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32))[None, None]
        with torch.inference_mode():
            found = network(batch.to(device()))[0].argmax(dim=0)
            labels: NDArray[np.uint8] = found.to(torch.uint8).cpu().numpy()
        return labels.transpose(1, 2, 0)


@dataclass(frozen=True)
class ModelCard:
    """Description of our networks, stored in `CARD`.

    Attributes
    ----------
    architecture
        Widths of the networks.
    quantiles
        Quantiles of the intensities in the brain, mean over the training heads; empty for none.
    stripped
        Whether the networks see the brain only.
    training
        Data, steps and seeds of the training.
    """

    architecture: Architecture
    quantiles: tuple[float, ...]
    stripped: bool
    training: Mapping[str, Any]


class CompactWeights:
    """Our networks, see `efface.segmentation.slant.weights_folder`.

    Parameters
    ----------
    folder
        Holds `CARD`, `LABEL_PRIOR`, and a network for each tile or `POOLED`.

    Raises
    ------
    InputError
        If a file is missing or unreadable.
    """

    geometry = EMBEDDED

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card = read_card(folder)
        self.target = np.array(self.card.quantiles) if self.card.quantiles else None
        self.stripped = self.card.stripped
        self.prior: LabelPrior = load_label_prior(folder / LABEL_PRIOR, self.geometry)
        self._networks: dict[str, TileNet] = {}

    def network(self, name: str) -> TileNet:
        """Network of a tile, float32, in evaluation mode; read once."""
        own = f"{name}.pt"
        key = own if (self.folder / own).is_file() else POOLED
        if key not in self._networks:
            network = load_compact(self.folder / key, self.card.architecture)
            self._networks[key] = network.to(device(), memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return self._networks[key]

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        """Predict label indices of a tile; background where the label prior allows nothing else."""
        return predict_compact(self.network(name), self.prior.tile(name), tile)

    def probabilities(self, name: str, tile: FloatVolume, *, mirrored: bool = False) -> TileProbabilities:
        """Predict label probabilities in the blocks that a tile covers.

        Parameters
        ----------
        name
            Of the tile.
        tile
            Its normalised intensities.
        mirrored
            Mirror the tile, apply the network of the tile on the other side of the head, and mirror the result. This is
            valid because the grid and the label prior are symmetric and the networks are trained on mirrored heads too.
        """
        network, box = self.network(self.geometry.mirror(name) if mirrored else name), self.geometry.box(name)
        found = []
        with torch.inference_mode():
            features = network.unet(_batch(tile[::-1] if mirrored else tile))[0].permute(1, 2, 3, 0)
            if mirrored:
                features = features.flip(0)
            for number, (block_box, block) in enumerate(self.prior.blocks):
                if (part := block_in(block_box, box)) is None:
                    continue
                voxels, channels, log_prior = (t.to(device()) for t in (block.voxels, block.channels, block.log_prior))
                features_of_voxels = features[part].reshape(-1, features.shape[-1])[voxels]
                if mirrored:
                    channels = torch.from_numpy(MIRRORED)[channels.cpu()].to(device())
                probabilities = torch.softmax(network.scores(features_of_voxels, channels, log_prior), dim=1)
                found.append((number, probabilities.cpu().numpy()))
        return found


def predict_compact(network: TileNet, prior: BlockPrior, tile: FloatVolume) -> NDArray[np.uint8]:
    """Predict label indices of a tile by one of our networks.

    Parameters
    ----------
    network
        Of the tile.
    prior
        Label prior in the tile.
    tile
        Normalised intensities.

    Returns
    -------
    numpy.ndarray
        Shape of the tile; background where the prior allows nothing else.
    """
    labels = np.zeros(tile.size, dtype=np.uint8)
    if prior.voxels.numel():
        with torch.inference_mode():
            scores = network(_batch(tile), *(t.to(device()) for t in (prior.voxels, prior.channels, prior.log_prior)))
            best = scores.argmax(dim=1).cpu()
        labels[prior.voxels.numpy()] = prior.channels[best].numpy()
    return labels.reshape(tile.shape)


def _batch(tile: FloatVolume) -> torch.Tensor:
    """A tile as input of our networks, shape (1, 1, x, y, z), on the device."""
    batch = torch.from_numpy(np.ascontiguousarray(tile, dtype=np.float32))[None, None]
    return batch.to(device(), memory_format=torch.channels_last_3d)


def read_card(folder: Path) -> ModelCard:
    """Read the model card of a folder.

    Raises
    ------
    InputError
        If it is missing or not of this format.
    """
    path = folder / CARD
    with refusing(f"SLANT weights {path}", "a folder written by `efface train slant`"):
        raw = parse_json(read_limited(path, LARGEST_CARD))
        if raw["format"] != FORMAT:
            received = one_line(str(raw["format"]))[:20]
            msg = f"SLANT weights {path} have format {received}; expected {FORMAT}: use the efface that wrote them"
            raise InputError(msg)
        return ModelCard(
            _architecture(raw["plan"]), _quantiles(raw["quantiles"]), raw["stripped"] is True, raw["training"]
        )


def _architecture(plan: Any) -> Architecture:
    encoder, decoder = plan["encoder"], plan["decoder"]
    if (len(encoder), len(decoder)) != LAYERS or not all(
        isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= WIDEST for width in (*encoder, *decoder)
    ):
        msg = f"its plan has other layers than {LAYERS[0]} and {LAYERS[1]} of 1 to {WIDEST} channels"
        raise ValueError(msg)
    return Architecture(tuple(encoder), tuple(decoder), plan["published"] is True)


def _quantiles(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if numbers and (len(numbers) != len(QUANTILES) or not np.isfinite(numbers).all() or (np.diff(numbers) < 0).any()):
        msg = f"its quantiles are not {len(QUANTILES)} ascending numbers"
        raise ValueError(msg)
    return numbers


def write_card(folder: Path, card: ModelCard) -> None:
    """Write the model card of a folder."""
    content = asdict(card)
    text = json.dumps({"format": FORMAT, "plan": content.pop("architecture"), **content}, indent=1)
    write_atomically(folder / CARD, text.encode(), force=True)


def load_compact(path: Path, architecture: Architecture) -> TileNet:
    """Read one of our networks.

    Raises
    ------
    InputError
        If the file is missing or damaged, or has another architecture than `CARD` says; the text names the tensor.
    """
    found = open_state(path, lambda: TileNet(architecture))
    with torch.device("meta"):
        network = TileNet(architecture)
    expected = network.state_dict()
    check_tensors(found, expected, str(path), f"use the files of one training, as {CARD} says")
    network.load_state_dict(read_tensors(found, expected, str(path)), assign=True)
    return network.eval()


def save_compact(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write one of our networks in half precision."""
    buffer = io.BytesIO()
    torch.save({key: value.detach().half().contiguous().clone() for key, value in state.items()}, buffer)
    write_atomically(path, buffer.getvalue(), force=True)
