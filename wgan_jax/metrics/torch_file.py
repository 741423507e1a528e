"""A reader of the files that `torch.save` writes, without PyTorch and without running what is in them.

Such a file is a pickle of names and tensors, beside the numbers of the tensors. A pickle may name any function to be
called, so this one is read by an unpickler that knows dictionaries and tensors and nothing else.
"""

import io
import math
import pickle
import pickletools
import zipfile
from typing import Any, NamedTuple

import numpy as np

ZIP_BEGINNING = b"PK\x03\x04"
OLD_BEGINNING = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a file before PyTorch 1.6: the pickle of a fixed number."""

DTYPES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
MOST_TUPLES = 50_000
"""Number of tuples in a file, of which a tensor has four."""


class Storage(NamedTuple):
    """Numbers in a row, which tensors have in common."""

    key: str
    dtype: str
    size: int


class Tensor:
    """A view of a storage, in units of its numbers. It stands for `torch._utils._rebuild_tensor_v2`."""

    def __init__(self, storage: Storage, offset: int, shape: tuple, strides: tuple, *rest: Any):
        del rest  # about gradients
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, Storage) or len(shape) != len(strides) or any(type(n) is not int for n in numbers):
            raise ValueError("it holds a tensor of an unknown form")
        if min(numbers) < 0 or math.prod(shape) > storage.size:
            raise ValueError("it holds a tensor larger than its storage")
        if offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) >= storage.size > 0:
            raise ValueError("it holds a tensor that reaches beyond its storage")
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it holds a tensor of an unknown form")


class _Dict(dict):
    """Stands for an OrderedDict, and forgets the attributes that PyTorch gives it."""

    def __setstate__(self, state: Any) -> None:
        pass


# A pickle can set attributes of what it knows. Both classes say what that does to their objects; on the classes
# themselves it then fails. The dtypes are strings, which have no attributes to set.
KNOWN: dict[str, Any] = {"collections.OrderedDict": _Dict, "torch._utils._rebuild_tensor_v2": Tensor, **DTYPES}
"""All that a pickle may name."""


def read(data: bytes) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by name, read-only, from a state dict that `torch.save` has written.

    Args:
      data: content of the file, in the form of PyTorch 1.6 and later (a zip archive) or in the older one.

    Raises:
      ValueError: if the file is broken, or holds anything else than a dictionary of tensors.
    """
    try:
        if data.startswith(ZIP_BEGINNING):
            names, numbers = _zip(data)
        elif data.startswith(OLD_BEGINNING):
            names, numbers = _old(data)
        else:
            raise ValueError("it is no file of torch.save")
        return {name: _array(tensor, numbers[tensor.storage]) for name, tensor in names.items()}
    except Exception as error:  # what a broken pickle or archive raises has no common type
        says = isinstance(error, ValueError | pickle.UnpicklingError | zipfile.BadZipFile)
        raise ValueError(f"not a readable file of PyTorch: {str(error) if says else 'it is broken'}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (found := KNOWN.get(f"{module}.{name}")) is None:
            raise ValueError(
                f"it names {f'{module}.{name}'[:80]!a}, which no dictionary of tensors needs; it was not run"
            )
        return found

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, size, *view = pid
        is_known = (kind, *view) in {("storage",), ("storage", None)} and dtype in DTYPES.values()
        if not is_known or type(size) is not int or type(key) is not str:
            raise ValueError("it holds a storage of an unknown form")
        return Storage(key, dtype, size)


def _unpickled(file: io.BytesIO) -> Any:
    """Returns the next object of a file."""
    start, most, tuples, last = file.tell(), len(file.getbuffer()), 0, ""
    is_tuple: dict[int, bool] = {}  # whether what is kept for later use may be one, by its number
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        # The unpickler makes its list of objects as long as the largest index says.
        if "PUT" in name and int(argument or 0) > most:
            raise ValueError("its pickle is broken")
        # Python looks at each tuple in a tuple that is the key of a dictionary, as often as it is in it.
        tuples += "TUPLE" in name
        if tuples > MOST_TUPLES or name == "DUP" or ("GET" in name and is_tuple.get(int(argument or 0))):
            raise ValueError("it holds more than the tensors of a network")
        if "PUT" in name or name == "MEMOIZE":
            is_tuple[len(is_tuple) if argument is None else int(argument)] = "TUPLE" in last or "POP" in last
        else:
            last = name
    file.seek(start)
    return _Unpickler(file).load()


def _zip(data: bytes) -> tuple[dict[str, Tensor], dict[Storage, np.ndarray]]:
    """Returns the tensors of a zip archive, and the numbers of its storages."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError("it is compressed, and torch.save compresses nothing")
        if sum(info.file_size for info in infos) > len(data):
            raise ValueError("it promises more than it holds")
        entries = {info.filename.partition("/")[2]: info for info in infos}
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("its bytes are in another order than here")
        tensors = _checked(_unpickled(io.BytesIO(archive.read(entries["data.pkl"]))))
        storages = {tensor.storage for tensor in tensors.values()}
        return tensors, {each: _numbers(archive.read(entries[f"data/{each.key}"]), each) for each in storages}


def _old(data: bytes) -> tuple[dict[str, Tensor], dict[Storage, np.ndarray]]:
    """Returns the tensors of an older file, and the numbers of its storages.

    Five pickles (a fixed number, a version, the writer's machine, the tensors, the keys of their storages) stand before
    the storages, each of which begins with its size.
    """
    file = io.BytesIO(data)
    _, version, machine, found, keys = (_unpickled(file) for _ in range(5))
    if version != 1001 or not machine["little_endian"]:
        raise ValueError("its version or the order of its bytes is unknown")
    tensors = _checked(found)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers = {}
    for key in keys:
        storage = storages[key]
        size = int.from_bytes(file.read(8), "little")
        if size != storage.size:
            raise ValueError("a storage has another size than it says")
        numbers[storage] = _numbers(file.read(size * np.dtype(storage.dtype).itemsize), storage)
    return tensors, numbers


def _checked(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, dict) or not all(type(k) is str and isinstance(x, Tensor) for k, x in found.items()):
        raise ValueError("it holds more than a dictionary of tensors")
    return found


def _numbers(data: bytes, storage: Storage) -> np.ndarray:
    if len(data) != storage.size * np.dtype(storage.dtype).itemsize:
        raise ValueError("a storage has another size than it says")
    return np.frombuffer(data, storage.dtype)


def _array(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    strides = tuple(numbers.itemsize * stride for stride in tensor.strides)
    view = numbers[tensor.offset :]
    return np.lib.stride_tricks.as_strided(view, tensor.shape, strides, writeable=False)
