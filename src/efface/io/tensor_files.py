"""State dicts of PyTorch, read as data: nothing in a file is run, and memory is given to a tensor only when it is read.

``torch.load`` reads all tensors of a file before a caller can look at their names and shapes, and raises whatever a byte
makes it stumble over. Here, the *recipe* of the file (a pickle that says which tensors there are) is followed by an
interpreter of the few instructions that ``torch.save`` writes for a state dict; all others are refused. It gives name,
type, shape and place of each tensor. The caller checks them, and reads those it wants.

Both formats are read: the zip file that PyTorch writes since 1.6, and the stream of pickles of earlier versions, in
which the published SLANT weights are.
"""

import io
import math
import pickletools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from efface.io.untrusted import Packed, read_limited, refusing

if TYPE_CHECKING:
    from torch import Tensor

DTYPES: Mapping[str, tuple[str, int]] = {
    "Double": ("float64", 8), "Float": ("float32", 4), "Half": ("float16", 2), "BFloat16": ("bfloat16", 2),
    "Long": ("int64", 8), "Int": ("int32", 4), "Short": ("int16", 2), "Char": ("int8", 1), "Byte": ("uint8", 1),
    "Bool": ("bool", 1),
}  # fmt: skip
"""Type and bytes of the elements of ``torch.FloatStorage`` and so on."""
FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
LARGEST_RECIPE = 2**20
MOST_STEPS = 100_000
"""A state dict of 60 tensors takes 2,000."""
MOST_AXES = 8
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_VALUES = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "BINSTRING", "SHORT_BINSTRING"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(NamedTuple):
    """A function or class that the recipe names; it is never imported."""

    words: str


class _Storage(NamedTuple):
    """A block of numbers in the file."""

    key: str
    dtype: str
    itemsize: int
    numbers: int


class StoredTensor(NamedTuple):
    """A tensor that has not been read.

    Attributes
    ----------
    dtype
        Name of its type, such as ``float32``.
    shape
        Its shape.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: _Storage
    bytes_of: "Callable[[_Storage], bytes]"

    def read(self) -> "Tensor":
        """Read it; contiguous, on the CPU.

        Raises
        ------
        Exception
            If its numbers are damaged or missing; see `efface.io.untrusted.refusing`.
        """
        import torch

        numbers = torch.frombuffer(bytearray(self.bytes_of(self.storage)), dtype=getattr(torch, self.dtype))
        return numbers.as_strided(self.shape, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


def open_tensors(path: Path, *, what: str, expected: str, largest: int) -> dict[str, StoredTensor]:
    """Names, types and shapes of the tensors of a state dict; entries that are no tensors are left out.

    Parameters
    ----------
    path
        A file of ``torch.save``.
    what, expected
        For messages: what it is, and what it should have been.
    largest
        Most bytes that the file can have, packed or not.

    Raises
    ------
    InputError
        If the file cannot be read, is larger, or is no state dict.
    """
    with refusing(f"{what} {path}", expected):
        raw = read_limited(path, largest)
        content = _zipped(Packed(raw, largest)) if raw.startswith(ZIP_MAGIC) else _streamed(io.BytesIO(raw))
        if not isinstance(content, dict):
            msg = f"it holds a {type(content).__name__}"
            raise TypeError(msg)
        return {name: value for name, value in content.items() if isinstance(value, StoredTensor)}


def _zipped(packed: Packed) -> Any:
    recipes = [name for name in packed.sizes if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(recipes) != 1 or packed.sizes[recipes[0]] > LARGEST_RECIPE:
        msg = "it has no recipe of tensors"
        raise ValueError(msg)
    folder = recipes[0].removesuffix("data.pkl")
    if folder + "byteorder" in packed.sizes and packed.read(folder + "byteorder") != b"little":
        msg = "its bytes are in the order of another kind of machine"
        raise ValueError(msg)

    def bytes_of(storage: _Storage) -> bytes:
        return packed.read(f"{folder}data/{storage.key}")

    for name in packed.sizes:
        if name.startswith(f"{folder}data/") and "/" in name.removeprefix(f"{folder}data/"):
            msg = f"{name} is packed in it"
            raise ValueError(msg)
    content, storages = _followed(io.BytesIO(packed.read(recipes[0])), bytes_of)
    for storage in storages.values():
        if packed.sizes.get(f"{folder}data/{storage.key}") != storage.numbers * storage.itemsize:
            msg = f"storage {storage.key} has another size than announced"
            raise ValueError(msg)
    return content


def _streamed(stream: io.BytesIO) -> Any:
    blocks: dict[str, bytes] = {}

    def bytes_of(storage: _Storage) -> bytes:
        return blocks[storage.key]

    magic, version, machine = (_followed(stream, bytes_of)[0] for _ in range(3))
    if magic != LEGACY_MAGIC or version != LEGACY_VERSION:
        msg = "it is no file of torch.save"
        raise ValueError(msg)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        msg = "its bytes are in the order of another kind of machine"
        raise ValueError(msg)
    content, storages = _followed(stream, bytes_of)
    keys, _ = _followed(stream, bytes_of)
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack("<q", stream.read(8))
        size = storage.numbers * storage.itemsize
        blocks[key] = stream.read(size) if count == storage.numbers else b""
        if len(blocks[key]) != size:
            msg = f"storage {key} has another size than announced"
            raise ValueError(msg)
    if len(blocks) != len(storages):
        msg = f"{len(storages) - len(blocks)} storages are missing"
        raise ValueError(msg)
    return content


def _followed(stream: io.BytesIO, bytes_of: Callable[[_Storage], bytes]) -> tuple[Any, dict[str, _Storage]]:
    """What a recipe makes, and the storages it names; the stream is left behind its end."""
    interpreter = _Interpreter(bytes_of)
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if steps > MOST_STEPS:
            break
        if opcode.name == "STOP":
            return interpreter.stack.pop(), interpreter.storages
        interpreter.step(opcode.name, argument)
    msg = "its recipe has no end"
    raise ValueError(msg)


class _Interpreter:
    """The instructions of pickle that ``torch.save`` writes for a state dict; nothing is imported or called."""

    def __init__(self, bytes_of: Callable[[_Storage], bytes]) -> None:
        self.stack: list[Any] = []
        self.storages: dict[str, _Storage] = {}
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._bytes_of = bytes_of

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marked.append(stack)
            self.stack = []
        elif name == "TUPLE":
            self.stack = self._marked.pop()
            self.stack.append(tuple(stack))
        elif name in _TUPLES:
            self.stack = [*stack[: -_TUPLES[name]], tuple(stack[-_TUPLES[name] :])]
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._made(stack.pop(), arguments))
        elif name == "BUILD":
            stack.pop()  # attributes of a dictionary: nothing is read from them
        elif name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
            self._fill(name)
        elif name != "PROTO":
            msg = f"its recipe has the instruction {name}, which no state dict needs"
            raise ValueError(msg)

    def _fill(self, name: str) -> None:
        """Put items into the dictionary or list below them."""
        if name.endswith("S"):
            items, self.stack = self.stack, self._marked.pop()
        else:
            count = 2 if name == "SETITEM" else 1
            items = self.stack[-count:]
            del self.stack[-count:]
        whole = self.stack[-1]
        if name.startswith("APPEND") and isinstance(whole, list):
            whole.extend(items)
        elif name.startswith("SETITEM") and isinstance(whole, dict):
            whole.update(_pairs(list(zip(items[::2], items[1::2], strict=True))))
        else:
            msg = f"its recipe fills a {type(whole).__name__}"
            raise TypeError(msg)

    def _storage(self, record: Any) -> _Storage:
        """The storage that a record names; a key names one storage only."""
        kind, type_, key, _, count, *view = record
        module, _, class_ = type_.words.partition(" ")
        dtype, itemsize = DTYPES[class_.removesuffix("Storage")]
        of_torch = module in ("torch", "torch.cuda") and class_.endswith("Storage")
        if kind != "storage" or not of_torch or not isinstance(key, str) or any(view) or not _is_count(count):
            msg = "it describes its numbers in a way that no state dict needs"
            raise ValueError(msg)
        storage = _Storage(key, dtype, itemsize, count)
        if self.storages.setdefault(key, storage) != storage:
            msg = f"storage {key} is two"
            raise ValueError(msg)
        return storage

    def _made(self, maker: Any, arguments: Any) -> Any:
        """What a call would make."""
        words = maker.words if isinstance(maker, _Name) else ""
        if words == "collections OrderedDict":
            return _pairs(arguments[0] if arguments else [])
        if words in ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"):
            return self._tensor(*arguments[:4])
        if words == "torch._utils _rebuild_parameter" and isinstance(arguments[0], StoredTensor):
            return arguments[0]
        msg = f"it calls {words or type(maker).__name__}"
        raise ValueError(msg)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, _Storage) or len(shape) != len(stride) or len(shape) > MOST_AXES:
            msg = "it describes a tensor in a way that no state dict needs"
            raise ValueError(msg)
        if not all(map(_is_count, numbers)):
            msg = f"a tensor has the shape {shape}"
            raise ValueError(msg)
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if 0 in shape or last >= storage.numbers or math.prod(shape) > storage.numbers:
            msg = f"a tensor of shape {shape} goes beyond its {storage.numbers} numbers"
            raise ValueError(msg)
        return StoredTensor(storage.dtype, tuple(shape), tuple(stride), offset, storage, self._bytes_of)


def _pairs(items: Any) -> dict[str, Any]:
    """A dictionary with names as keys; a key of another kind may be as deep as the stack."""
    if not all(isinstance(name, str) for name, _ in items):
        msg = "its entries have no names"
        raise ValueError(msg)
    return dict(items)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48
