"""The weights of SLANT on disk: the 27 published PyTorch state dicts, or a folder of our own with a model card.

The published networks are read one at a time, when their tile is due (they have 2 GB together); ours stay in memory.
"""

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.label_prior import BlockPrior, LabelPrior, load_label_prior
from efface.segmentation.slant.tiling import EMBEDDED, PUBLISHED, Geometry, place_in
from efface.segmentation.slant.unet import PUBLISHED_PLAN, Architecture, TileNet, device, load_published
from efface.spatial.types import FloatVolume

PUBLISHED_PATHS = ("{name}/finetune_out/models/model_epoch_0027.pth", "{name}.pth", "{name}.pt")
"""Where a tile's state dict may be in the folder; the first is as in the published container."""
POOLED = "pooled"
FORMAT = 1


class TileModel(Protocol):
    """Interface of weights that `efface.segmentation.slant.pipeline` uses."""

    @property
    def geometry(self) -> Geometry:
        """The tiles the networks were trained on."""

    @property
    def target(self) -> NDArray[np.float64] | None:
        """Quantiles that intensities are fitted to, or None."""

    @property
    def stripped(self) -> bool:
        """Whether the networks see the brain only."""

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        """Label indices of a tile from its normalised intensities, same shape."""


TileProbabilities = list[tuple[int, NDArray[np.float32]]]
"""For blocks of `LabelPrior.blocks`, which one, and the probabilities of its voxels and channels, shape (n, k)."""


class PublishedWeights:
    """The published SLANT-27 networks.

    Parameters
    ----------
    folder
        With 27 state dicts, see `PUBLISHED_PATHS`.
    plan, geometry
        For tests: other widths, other tiles.

    Raises
    ------
    InputError
        If a file is missing.
    """

    target: NDArray[np.float64] | None = None
    """The published quantiles are not distributed; tiles are scaled to 0 to 255, which undoes a linear map anyway."""
    stripped = False

    def __init__(self, folder: Path, plan: Architecture = PUBLISHED_PLAN, geometry: Geometry = PUBLISHED) -> None:
        self.folder, self.plan, self.geometry = folder, plan, geometry
        self.files = {name: self._find(name) for name in geometry.names}

    def _find(self, name: str) -> Path:
        places = [self.folder / pattern.format(name=name) for pattern in PUBLISHED_PATHS]
        for path in places:
            if path.is_file():
                return path
        msg = (
            f"SLANT weights in {self.folder}: no state dict of tile {name}; expected {places[1]} or {places[0]}: "
            "give the folder that holds all 27"
        )
        raise InputError(msg)

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        """Label indices of a tile.

        Raises
        ------
        InputError
            If the state dict cannot be read or is not the published network's.
        """
        network = load_published(_load(self.files[name]), str(self.files[name]), self.plan)
        low, high = float(tile.min()), float(tile.max())
        scaled = (tile - low) * (255 / (high - low) if high > low else 0)
        batch = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32))[None, None]
        with torch.inference_mode():
            found = network(batch.to(device()))[0].argmax(dim=0)
            labels: NDArray[np.uint8] = found.to(torch.uint8).cpu().numpy()
        return labels.transpose(1, 2, 0)


@dataclass(frozen=True)
class ModelCard:
    """Model card of our weights.

    Attributes
    ----------
    plan
        Widths of the networks.
    quantiles
        Of normalised intensities over the brain, mean of the training heads; empty for none.
    stripped
        Whether the networks see the brain only.
    training
        How they were made: data, steps, seeds.
    """

    plan: Architecture
    quantiles: tuple[float, ...]
    stripped: bool
    training: Mapping[str, Any]


class CompactWeights:
    """Our networks: ``card.json``, ``label_prior.npz`` and ``i_j_k.pt``, or ``pooled.pt`` for tiles without their own.

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
        self.prior: LabelPrior = load_label_prior(folder / "label_prior.npz", self.geometry)
        self._networks: dict[str, TileNet] = {}

    def network(self, name: str) -> TileNet:
        """The network of a tile, float32, ready to predict; read once."""
        path = self.folder / f"{name}.pt"
        key = name if path.is_file() else POOLED
        if key not in self._networks:
            network = load_compact(self.folder / f"{key}.pt", self.card.plan)
            self._networks[key] = network.to(device(), memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return self._networks[key]

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        """Label indices of a tile; background where no training head had anything else near."""
        return predict_compact(self.network(name), self.prior.tile(name), tile)

    def probabilities(self, name: str, tile: FloatVolume, *, mirrored: bool = False) -> TileProbabilities:
        """Label probabilities in the blocks that a tile covers.

        Parameters
        ----------
        name, tile
            Which tile, and its intensities.
        mirrored
            Show the tile's mirror image to the network of the tile on the other side, and mirror what it finds: right
            because the grid and the label frequencies are symmetric, and because networks see mirror images in training.
        """
        network, box = self.network(self.geometry.mirror(name) if mirrored else name), self.geometry.box(name)
        found = []
        with torch.inference_mode():
            features = network.unet(_batch(tile[::-1] if mirrored else tile))[0].permute(1, 2, 3, 0)
            if mirrored:
                features = features.flip(0)
            for number, (block_box, block) in enumerate(self.prior.blocks):
                if (part := place_in(block_box, box)) is None:
                    continue
                voxels, channels, log_prior = (t.to(device()) for t in (block.voxels, block.channels, block.log_prior))
                there = features[part].reshape(-1, features.shape[-1])[voxels]
                if mirrored:
                    channels = torch.from_numpy(MIRRORED)[channels.cpu()].to(device())
                probabilities = torch.softmax(network.scores(there, channels, log_prior), dim=1)
                found.append((number, probabilities.cpu().numpy()))
        return found


def predict_compact(network: TileNet, prior: BlockPrior, tile: FloatVolume) -> NDArray[np.uint8]:
    """Label indices of a tile by one of our networks; same shape."""
    labels = np.zeros(tile.size, dtype=np.uint8)
    if prior.voxels.numel():
        with torch.inference_mode():
            scores = network(_batch(tile), *(t.to(device()) for t in (prior.voxels, prior.channels, prior.log_prior)))
            best = scores.argmax(dim=1).cpu()
        labels[prior.voxels.numpy()] = prior.channels[best].numpy()
    return labels.reshape(tile.shape)


def _batch(tile: FloatVolume) -> torch.Tensor:
    """A tile as our networks take it."""
    batch = torch.from_numpy(np.ascontiguousarray(tile, dtype=np.float32))[None, None]
    return batch.to(device(), memory_format=torch.channels_last_3d)


def read_card(folder: Path) -> ModelCard:
    """Read ``card.json``.

    Raises
    ------
    InputError
        If it is missing or not of this format.
    """
    path = folder / "card.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            msg = f"SLANT weights {path} are of format {raw['format']}; expected {FORMAT}: install a matching efface"
            raise InputError(msg)
        plan = Architecture(tuple(raw["plan"]["encoder"]), tuple(raw["plan"]["decoder"]), raw["plan"]["published"])
        return ModelCard(plan, tuple(raw["quantiles"]), bool(raw["stripped"]), raw["training"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        msg = f"SLANT weights {path} cannot be read ({error!r}): expected a folder written by `efface train slant`"
        raise InputError(msg) from error


def write_card(folder: Path, card: ModelCard) -> None:
    """Write ``card.json``."""
    text = json.dumps({"format": FORMAT, **asdict(card)}, indent=1)
    write_atomically(folder / "card.json", text.encode(), force=True)


def load_compact(path: Path, plan: Architecture) -> TileNet:
    """Read one of our networks.

    Raises
    ------
    InputError
        If the file is missing, or is not of this plan; the text names the tensor.
    """
    network = TileNet(plan)
    expected, found = network.state_dict(), _load(path)
    for key, value in expected.items():
        received = found.get(key)
        if not isinstance(received, torch.Tensor) or received.shape != value.shape:
            shape = tuple(received.shape) if isinstance(received, torch.Tensor) else "nothing"
            msg = f"SLANT weights {path}: tensor {key} must have shape {tuple(value.shape)}; received {shape}"
            raise InputError(msg)
    network.load_state_dict({key: found[key].float() for key in expected})
    return network.eval()


def save_compact(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write one of our networks in half precision."""
    buffer = io.BytesIO()
    torch.save({key: value.detach().half().contiguous().clone() for key, value in state.items()}, buffer)
    write_atomically(path, buffer.getvalue(), force=True)


def _load(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"SLANT weights {path} cannot be read ({reason}): expected a PyTorch state dict of one tile"
        raise InputError(msg) from error
    if not isinstance(state, dict):
        msg = f"SLANT weights {path} hold a {type(state).__name__}; expected a PyTorch state dict of one tile"
        raise InputError(msg)
    return state
