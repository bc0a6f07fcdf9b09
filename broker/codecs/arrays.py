"""Values whose bytes travel beside the text: bytes, bytearray, memoryview, `array.array` and numpy arrays.

Writing gives views of the value's own memory, never copies, unless the memory is not contiguous. They are read-only,
so that a reader in the same process copies instead of sharing memory with the writer. Reading wraps a buffer that is
writable, for it was made for this message, and copies any other.

numpy is used only if it is loaded already, or when the fixed tag of an array arrives.
"""

from __future__ import annotations

import array
import math
import re
import struct
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from broker.codecs.interface import Buffer, Fault, view_of

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "WRITERS",
    "numpy_writer",
    "owned",
    "read_array",
    "read_memoryview",
    "read_ndarray",
    "read_scalar",
]

Put = Callable[[Buffer], dict[str, object]]
"""Takes the bytes and gives the fields that say where they are: `buffer`, or `base64` for plain JSON."""


# ---- bytes, bytearray, memoryview


def write_bytes(value: bytes, put: Put) -> dict[str, object]:
    return {"$type": "bytes", **put(value)}


def write_bytearray(value: bytearray, put: Put) -> dict[str, object]:
    return {"$type": "bytearray", **put(memoryview(value).toreadonly())}


def write_memoryview(value: memoryview, put: Put) -> dict[str, object]:
    if value.format not in _FORMATS:
        raise Fault(f"a memoryview of format {value.format!r} cannot travel: send the array that it is a view of")
    data = value.toreadonly() if value.c_contiguous else memoryview(value.tobytes())
    flat = data.cast("B") if value.nbytes else b""
    return {"$type": "memoryview", "format": value.format, "shape": list(value.shape or ()), **put(flat)}


_FORMATS = frozenset("?cbBhHiIlLqQnNfd")


def owned(data: Buffer) -> memoryview:
    """The bytes as memory that belongs to this message alone."""
    view = view_of(data)
    return view.cast("B") if not view.readonly else memoryview(bytearray(view))


def read_memoryview(data: Buffer, item: str, shape: list[int]) -> memoryview:
    """A read-only view of the format and shape that it had."""
    if item not in _FORMATS:
        raise ValueError(f"a memoryview has no format {item!r} here")
    _check_size(data, shape, struct.calcsize(item))
    view: Any = memoryview(data if type(data) is bytes else owned(data)).toreadonly()
    if 0 not in shape:
        return view.cast(item, shape)  # type: ignore[no-any-return]
    if len(shape) != 1:
        raise ValueError("an empty memoryview has one dimension")  # memoryview.cast makes no other
    return view.cast(item)  # type: ignore[no-any-return]


def _check_size(data: Buffer, shape: list[int], itemsize: int) -> None:
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a shape is a list of sizes")
    expected = math.prod(shape) * itemsize
    if view_of(data).nbytes != expected:
        raise ValueError(f"{view_of(data).nbytes} bytes arrived, and the shape wants {expected}")


# ---- array.array


def write_array(value: array.array[Any], put: Put) -> dict[str, object]:
    if sys.byteorder == "big":
        value = array.array(value.typecode, value)
        value.byteswap()
    data = memoryview(value).toreadonly().cast("B") if len(value) and value.typecode != "u" else value.tobytes()
    return {"$type": "array", "typecode": value.typecode, "itemsize": value.itemsize, **put(data)}


def read_array(data: Buffer, typecode: str, itemsize: int) -> array.array[Any]:
    if typecode not in array.typecodes:
        raise ValueError(f"there is no array of typecode {typecode!r}")
    value: array.array[Any] = array.array(typecode)
    if value.itemsize != itemsize:
        raise ValueError(
            f"the items of an array of typecode {typecode!r} have {itemsize} bytes there and {value.itemsize} here:"
            " send one of a typecode that is the same everywhere, such as 'i', 'q' or 'd'"
        )
    value.frombytes(view_of(data))
    if sys.byteorder == "big":
        value.byteswap()
    if typecode == "u":
        value.tounicode()  # raises ValueError for what is no text
    return value


WRITERS: dict[type, Callable[[Any, Put], dict[str, object]]] = {
    bytes: write_bytes,
    bytearray: write_bytearray,
    memoryview: write_memoryview,
    array.array: write_array,
}


# ---- numpy

_TEXT_DTYPE = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgFDGbiufcmMSUV]\d{0,9}(\[\d{0,9}[a-zA-Z]{1,7}\])?", re.ASCII)
_DTYPE_DEPTH = 16


def numpy_writer(value: object) -> Callable[[Any, Put], dict[str, object]] | None:
    """What writes a value of numpy; None if it is none, or of a class derived from numpy's array."""
    numpy = sys.modules.get("numpy")
    # While another thread imports it, it is there with a part of its names.
    ndarray, generic = getattr(numpy, "ndarray", None), getattr(numpy, "generic", None)
    if ndarray is None or generic is None:
        return None
    if type(value) is ndarray:
        return _write_ndarray
    return _write_scalar if isinstance(value, generic) and type(value).__module__ == "numpy" else None


def _write_ndarray(value: np.ndarray[Any, Any], put: Put) -> dict[str, object]:
    dtype = _dtype_fields(value.dtype)
    order: Literal["C", "F"] = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    flat = value.ravel(order=order)  # a view if the memory allows
    data: Buffer = flat.view("u1").data.toreadonly() if flat.nbytes else b""
    return {"$type": "numpy.ndarray", "dtype": dtype, "shape": list(value.shape), "order": order, **put(data)}


def _write_scalar(value: np.generic, put: Put) -> dict[str, object]:
    fields = {"$type": "numpy.scalar", "dtype": _dtype_fields(value.dtype)}
    if isinstance(value, str):
        return {**fields, "value": "".join((value,))}  # item() would drop final NULs
    if isinstance(value, bytes):
        return {**fields, "value": b"".join((value,))}
    if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {**fields, "value": value.item()}
    return {**fields, "base64": b64encode(value.tobytes()).decode()}


def _npy() -> Any:
    """How numpy describes dtypes in its files: a module that has no types in numpy 2.0."""
    from numpy.lib import format as npy

    return npy


def _dtype_fields(dtype: np.dtype[Any]) -> object:
    if dtype.hasobject:
        raise Fault(
            f"an array of dtype {dtype} holds objects and cannot travel: send a list, or convert it with astype"
        )
    if dtype.metadata is None and dtype.kind in "biufcmMSUV" and dtype.isbuiltin != 2:  # 2: of another package
        described = _npy().dtype_to_descr(dtype)
        if _npy().descr_to_dtype(described) == dtype:
            return _as_lists(described)
    raise Fault(f"an array of dtype {dtype!r} cannot travel: convert it to one of numpy's own with astype")


def _as_lists(described: object) -> object:
    return [_as_lists(part) for part in described] if isinstance(described, list | tuple) else described


def _dtype(described: object, depth: int = 0) -> Any:
    """The dtype from its description, of which each part is checked: numpy's own reader takes much more."""
    if depth > _DTYPE_DEPTH:
        raise ValueError("the dtype is nested too deep")
    if isinstance(described, str):
        if not _TEXT_DTYPE.fullmatch(described):
            raise ValueError(f"there is no dtype {described!r}")
        return described
    if not isinstance(described, list):
        raise ValueError("a dtype is a text or a list of fields")
    return [_dtype_field(field, depth + 1) for field in described]


def _dtype_field(field: object, depth: int) -> tuple[Any, ...]:
    if not isinstance(field, list) or len(field) not in (2, 3):
        raise ValueError("a field of a dtype is [name, dtype] or [name, dtype, shape]")
    name = tuple(field[0]) if isinstance(field[0], list) else field[0]
    if not all(isinstance(part, str) for part in (name if isinstance(name, tuple) else (name,))):
        raise ValueError("the name of a field is a text")
    if len(field) == 2:
        return name, _dtype(field[1], depth)
    if not isinstance(field[2], list) or not all(type(size) is int and 0 < size < 2**31 for size in field[2]):
        raise ValueError("the shape of a field is a list of sizes")
    return name, _dtype(field[1], depth), tuple(field[2])


def read_ndarray(data: Buffer, dtype: object, shape: list[int], order: str) -> object:
    """The array, contiguous and writable. Raises Fault if numpy is not installed."""
    kind = _checked_dtype(dtype)
    _check_size(data, shape, kind.itemsize)
    if order not in ("C", "F"):
        raise ValueError(f"there is no order {order!r}")
    import numpy as np

    memory = owned(data) if view_of(data).nbytes else None
    return np.ndarray(tuple(shape), kind, memory, order="F" if order == "F" else "C")


def read_scalar(dtype: object, value: object = None, base64: str | None = None) -> object:
    """The scalar, from its value or from its bytes. Raises Fault if numpy is not installed."""
    kind = _checked_dtype(dtype)
    if base64 is not None:
        data = b64decode(base64, validate=True)
        _check_size(data, [], kind.itemsize)
        import numpy as np

        return np.ndarray((), kind, data)[()]
    if type(value) not in _SCALAR_VALUES.get(kind.kind, ()):
        raise ValueError(f"{value!r} is no value of the dtype {kind.name}")
    import numpy as np

    with np.errstate(all="ignore"):
        scalar = kind.type(value)
    item = scalar.item()
    if (kind.kind in "iu" and item != value) or (kind.kind == "f" and abs(item) == math.inf and item != value):
        raise ValueError(f"{value!r} does not fit the dtype {kind.name}")
    return scalar


_SCALAR_VALUES: dict[str, tuple[type, ...]] = {
    "b": (bool,),
    "i": (int,),
    "u": (int,),
    "f": (int, float),
    "S": (bytes,),
    "U": (str,),
}


def _checked_dtype(described: object) -> np.dtype[Any]:
    try:
        npy = _npy()
    except ImportError as missing:
        raise Fault("a value of numpy arrived, and numpy is not installed here") from missing
    dtype: np.dtype[Any] = npy.descr_to_dtype(_dtype(described))
    if dtype.hasobject:
        raise ValueError("the dtype object is not accepted")
    return dtype
