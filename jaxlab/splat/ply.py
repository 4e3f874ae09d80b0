"""PLY files of Gaussian splats: the reference layout, written to the byte and read liberally."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlab.runs import atomic
from jaxlab.splat import packed_ply
from jaxlab.splat.harmonics import sh_degree
from jaxlab.splat.types import GaussianCloud

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_REQUIRED = (
    *("x", "y", "z", "opacity"),
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
    *(f"f_dc_{i}" for i in range(3)),
)
_REST_COUNTS = (0, 9, 24, 45)
_MAX_HEADER = 1 << 20


class _Element(NamedTuple):
    """One `element` of a header: its rows and properties `(name, type, type of list counts)`."""

    name: str
    rows: int
    properties: list[tuple[str, str, str | None]]


def read_ply(path: str | os.PathLike) -> GaussianCloud:
    """Reads the reference or the compressed layout (host).

    Properties may come in any order and among others, as float or double, binary of either byte
    order or ascii; further elements are skipped.

    Returns:
      A cloud of float32 NumPy arrays, raw values as stored (normals are not kept).

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a PLY file, a truncated one, or one without a splat's properties.
    """
    path = Path(path)
    with open(path, "rb") as file:
        order, elements = _read_header(file, path)
        tables = {}
        for element in elements:
            table = _read_element(file, element, order, path)
            if table is not None:
                tables[element.name] = table
    if "vertex" not in tables:
        names = ", ".join(element.name for element in elements) or "none"
        raise ValueError(f"{path} has no element vertex, but {names}")
    if packed_ply.is_packed(tables):
        return packed_ply.unpack(tables, path)
    return _cloud_of(tables["vertex"], path)


def _read_header(file, path: Path) -> tuple[str, list[_Element]]:
    if file.readline(8).strip() != b"ply":
        raise ValueError(f"{path} is no PLY file: its first line is not `ply`")
    order, elements = None, []
    while True:
        line = file.readline(_MAX_HEADER)
        if not line.endswith(b"\n") or file.tell() > _MAX_HEADER:
            raise ValueError(f"{path} is truncated: its header has no end_header")
        words = line.decode("ascii", "replace").split()
        match words:
            case ["end_header"]:
                break
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", kind, _] if kind in _ORDERS:
                order = kind
            case ["element", name, count] if count.isdigit():
                elements.append(_Element(name, int(count), []))
            case ["property", "list", counts, kind, name] if elements and {counts, kind} <= {
                *_TYPES
            }:
                elements[-1].properties.append((name, kind, counts))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append((name, kind, None))
            case _:
                raise ValueError(f"{path}: cannot read the header line {' '.join(words)!r}")
    if order is None:
        raise ValueError(f"{path} has no format line")
    return order, elements


def _read_element(file, element: _Element, order: str, path: Path) -> np.ndarray | None:
    """The rows of an element; None where it holds lists, which are passed over."""
    names = [name for name, _, _ in element.properties]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: element {element.name} names a property twice")
    lists = [name for name, _, counts in element.properties if counts]
    if lists and element.name == "vertex":
        raise ValueError(f"{path}: a vertex of a splat has no list properties, found {lists}")
    if order == "ascii":
        return _read_ascii(file, element, lists, path)
    if lists:
        _skip_lists(file, element, _ORDERS[order], path)
        return None
    dtype = np.dtype(
        [(name, _ORDERS[order] + _TYPES[kind]) for name, kind, _ in element.properties]
    )
    expected = element.rows * dtype.itemsize
    found = file.read(expected)
    _check_length(path, element, expected, len(found), "bytes")
    return np.frombuffer(found, dtype)


def _read_ascii(file, element: _Element, lists: list[str], path: Path) -> np.ndarray | None:
    lines = [line for _, line in zip(range(element.rows), file, strict=False)]
    _check_length(path, element, element.rows, len(lines), "lines")
    if lists:
        return None
    dtype = np.dtype([(name, _TYPES[kind]) for name, kind, _ in element.properties])
    try:
        values = np.array(b" ".join(lines).split(), np.float64)
        rows = values.reshape(element.rows, len(element.properties))
    except ValueError as error:
        raise ValueError(f"{path}: element {element.name} cannot be read: {error}") from None
    table = np.empty(element.rows, dtype)
    for column, name in enumerate(dtype.names or ()):
        table[name] = rows[:, column]
    return table


def _skip_lists(file, element: _Element, order: str, path: Path) -> None:
    for row in range(element.rows):
        for _, kind, counts in element.properties:
            length = 1
            if counts:
                dtype = np.dtype(order + _TYPES[counts])
                head = file.read(dtype.itemsize)
                _check_length(path, element, dtype.itemsize, len(head), f"bytes in row {row}")
                length = int(np.frombuffer(head, dtype)[0])
            size = length * np.dtype(_TYPES[kind]).itemsize
            _check_length(path, element, size, len(file.read(size)), f"bytes in row {row}")


def _check_length(path: Path, element: _Element, expected: int, found: int, unit: str) -> None:
    if found < expected:
        raise ValueError(
            f"{path} is truncated: element {element.name} needs {expected} {unit}, found {found}"
        )


def _cloud_of(vertex: np.ndarray, path: Path) -> GaussianCloud:
    names = vertex.dtype.names or ()
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise ValueError(
            f"{path} is no Gaussian splat: its vertices lack {', '.join(missing)}. A plain point "
            "cloud can start a fit (`init_cloud`)"
        )
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in _REST_COUNTS or any(f"f_rest_{i}" not in names for i in range(rest)):
        raise ValueError(
            f"{path} has {rest} f_rest properties; there must be 0, 9, 24 or 45, numbered from 0"
        )

    def columns(*names: str) -> np.ndarray:
        table = np.empty((len(vertex), len(names)), np.float32)
        for column, name in enumerate(names):
            table[:, column] = vertex[name]
        return table

    return GaussianCloud(
        columns("x", "y", "z"),
        columns(*(f"scale_{i}" for i in range(3))),
        columns(*(f"rot_{i}" for i in range(4))),
        columns("opacity")[:, 0],
        channel_major_sh(
            columns(*(f"f_dc_{i}" for i in range(3))),
            columns(*(f"f_rest_{i}" for i in range(rest))),
        ),
    )


def channel_major_sh(dc: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """`[N, K, 3]` of `dc` `[N, 3]` and `rest` `[N, 3 (K - 1)]`, which goes channel by channel."""
    rest = rest.reshape(len(dc), 3, rest.shape[1] // 3)
    return np.ascontiguousarray(np.concatenate([dc[:, :, None], rest], 2).transpose(0, 2, 1))


def write_ply(path: str | os.PathLike, cloud: GaussianCloud) -> None:
    """Writes the reference layout, which its own viewers read (host).

    Binary little endian; float32 rows of position, zero normals, colour (channel by channel),
    opacity logit, log scales, and the quaternion as given.

    Raises:
      ValueError: leaves whose shapes do not belong together.
    """
    cloud = check_cloud(cloud)
    count, bands = cloud.sh.shape[:2]
    num_rest = 3 * (bands - 1)
    names = [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(num_rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    rows = np.concatenate(
        [
            cloud.means,
            np.zeros((count, 3), np.float32),
            cloud.sh[:, 0],
            cloud.sh[:, 1:].transpose(0, 2, 1).reshape(count, num_rest),
            cloud.opacity_logits[:, None],
            cloud.log_scales,
            cloud.quats,
        ],
        axis=1,
    )
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {count}",
        *(f"property float {name}" for name in names),
        "end_header",
    ]
    text = "\n".join(header) + "\n"
    atomic.write_bytes(path, text.encode("ascii") + rows.astype("<f4").tobytes())


def check_cloud(cloud: GaussianCloud) -> GaussianCloud:
    """The leaves of one cloud as float32 NumPy arrays, once their shapes agree.

    Raises:
      ValueError: a leaf of another shape, or a number of coefficients that no degree has.
    """
    cloud = GaussianCloud(*(np.asarray(x, np.float32) for x in cloud))
    count = len(cloud.means) if cloud.means.ndim else 0
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, *cloud.sh.shape[1:2], 3))
    for name, leaf, shape in zip(cloud._fields, cloud, shapes, strict=True):
        if leaf.shape != shape:
            raise ValueError(f"{name} of {count} Gaussians must be {shape}, got {leaf.shape}")
    sh_degree(cloud.sh.shape[1])
    return cloud
