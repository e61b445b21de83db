"""Files of state dicts and arrays, good and hostile, and random damage to them."""

import io
import pickle
import random
import re
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import torch

MARKS = (
    b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b".", b"R", b"(",
    b"\x80\x02", b"Ptorch\n", b"cos\nsystem\n", b"PK\x01\x02", b"PK\x05\x06", b"j\xff\xff\xff\x7f", b"\x8a\xff",
)  # fmt: skip
"""What parsers stumble over: ends of numbers, instructions of pickle, marks of zip files."""

WORDS = (
    b"-1", b"0", b"3", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"x"', b"9" * 30, b"true", b"0.5",
    b"[" * 200 + b"]" * 200,
)  # fmt: skip
"""In the place of a word of JSON."""


def saved(content, *, legacy=False):
    """Bytes of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def packed(entries, compression=zipfile.ZIP_STORED):
    """A zip file with these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)
    return buffer.getvalue()


def repacked(raw, change, compression=zipfile.ZIP_STORED):
    """A zip file with changed contents and right check sums."""
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        entries = [(name, file.read(name)) for name in file.namelist()]
    return packed([(name, change(name, content)) for name, content in entries], compression)


def bomb(zeros=2**29):
    """A state dict of half a megabyte that inflates to 512 MB."""
    entries = [("archive/data.pkl", recipe(zeros // 4)), ("archive/byteorder", b"little"), ("archive/version", b"3\n")]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
        with file.open("archive/data/0", "w") as stream:
            for _ in range(zeros // 2**20):
                stream.write(bytes(2**20))
    return buffer.getvalue()


def recipe(numbers, shape=None):
    """A recipe of one tensor of float32, written by hand."""
    shape = (numbers,) if shape is None else shape
    sizes = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in shape) + b"t"
    strides = b"(" + b"K\x01" * len(shape) + b"t"
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + b"0X\x03\0\0\0cpuJ"
    storage += struct.pack("<i", numbers) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + sizes + strides + b"\x89NtR"
    return b"\x80\x02}X\x05\0\0\0trust" + tensor + b"s."


class Opens:
    """Pickled, it creates a file when a careless reader loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def hostile(raw_zip, raw_legacy, path):
    """Files that no state dict is, by what is wrong with them; `path` must not be created by any."""
    deep = b"\x80\x02" + b"]" * 90_000 + b"."
    code = pickle.dumps(OrderedDict(trust=Opens(path)), protocol=2)

    def with_recipe(content):
        return repacked(raw_zip, lambda name, old: content if name.endswith("data.pkl") else old)

    return {
        "code in the zip file": with_recipe(code),
        "code in the stream": code,
        "a bytearray of a terabyte": with_recipe(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\1\x85R."),
        "a deep list": with_recipe(deep),
        "a deep tuple as key": with_recipe(b"\x80\x02}" + b")" + b"\x85" * 90_000 + b"Ns."),
        "no end": with_recipe(b"\x80\x02" + b"N" * 200_000),
        "a long recipe": with_recipe(b"\x80\x02" + b"N" * 2**21 + b"."),
        "a text of 4 GB": with_recipe(b"\x80\x02X\xff\xff\xff\xff."),
        "a shape beyond its numbers": with_recipe(recipe(4, (2**30, 2**30))),
        "more numbers than bytes": with_recipe(recipe(2**31 - 1)),
        "a tensor of negative size": with_recipe(recipe(4, (-1,))),
        "an empty tensor": with_recipe(recipe(4, (0,))),
        "a list": saved([1, 2]),
        "a number": saved(7, legacy=True),
        "another byte order": repacked(raw_zip, lambda name, old: b"big" if name.endswith("byteorder") else old),
        "two recipes": packed([("a/data.pkl", b"."), ("b/data.pkl", b".")]),
        "no recipe": packed([("x", b"")]),
        "thousands of entries": packed([(str(n), b"") for n in range(3000)]),
        "bytes cut from the stream": raw_legacy[:-1],
        "only the magic": b"PK\x03\x04",
        "empty": b"",
    }


def damaged(raw, rng: random.Random):
    """A file with random damage: patched, cut, doubled, or its entries changed under a right check sum."""
    kind = rng.random()
    if raw.startswith(b"PK") and kind < 0.4:
        names = zipfile.ZipFile(io.BytesIO(raw)).namelist()
        # The recipe and the headers of arrays are small: damage there says more than one in the numbers.
        chosen = next((n for n in names if n.endswith(".pkl")), names[0]) if rng.random() < 0.7 else rng.choice(names)
        compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        return repacked(raw, lambda name, old: _patched(old, rng, 400) if name == chosen else old, compression)
    if raw.startswith(b"{") and kind < 0.7:
        words = list(re.finditer(rb"-?[\d.]+|true|false|\"\w+\"", raw))
        for word in sorted(rng.sample(words, rng.choice((1, 1, 2, 5))), key=lambda one: -one.start()):
            raw = raw[: word.start()] + rng.choice(WORDS) + raw[word.end() :]
        return raw
    if kind < 0.5:
        return raw[: rng.randrange(len(raw))]
    if kind < 0.55:
        at = rng.randrange(len(raw))
        return raw[:at] + rng.randbytes(rng.randint(1, 300)) + raw[at:]
    return _patched(raw, rng, rng.choice((200, 3000, len(raw))))


def _patched(raw, rng, within):
    changed = bytearray(raw)
    if rng.random() < 0.4:  # one byte: most of the structure stays
        changed[rng.randrange(max(1, min(within, len(changed))))] = rng.randrange(256)
        return bytes(changed)
    for _ in range(rng.randint(1, 6)):
        patch = rng.choice([*MARKS, rng.randbytes(rng.randint(1, 8))])
        at = rng.randrange(max(1, min(within, len(changed))))
        if rng.random() < 0.3:
            at = max(0, len(changed) - 1 - at)  # directories of zip files are at the end
        changed[at : at + len(patch)] = patch
    return bytes(changed)


def array_file(shape=(3, 4), dtype=np.uint8, header=None):
    """A .npz file with one array; its header may lie."""
    buffer = io.BytesIO()
    if header is None:
        np.save(buffer, np.zeros(shape, dtype))
    else:
        text = header.ljust(117).encode() + b"\n"
        buffer.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(12))
    return packed([("levels.npy", buffer.getvalue())], zipfile.ZIP_DEFLATED)
