import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxlab import splat
from jaxlab.splat.ply import read_ply
from tests.splat.scenes import DATA


def any_cloud(count=5, degree=0, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, (degree + 1) ** 2, 3))
    return splat.GaussianCloud(*(rng.normal(size=s).astype(np.float32) for s in shapes))


def assert_same(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
        assert x.dtype == np.float32


@hypothesis.given(st.integers(0, 20), st.integers(0, 3), st.integers(0, 100))
def test_what_is_written_is_read(tmp_path_factory, count, degree, seed):
    path = tmp_path_factory.mktemp("ply") / "cloud.ply"
    cloud = any_cloud(count, degree, seed)
    splat.write_ply(path, cloud)
    assert_same(splat.read_ply(path), cloud)


def test_bytes_are_the_reference_layout(tmp_path):
    cloud = any_cloud(3, 1)
    splat.write_ply(tmp_path / "a.ply", cloud)
    names = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2".split()
    names += [f"f_rest_{i}" for i in range(9)]
    names += "opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 3\n"
    header += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    data = (tmp_path / "a.ply").read_bytes()
    assert data.startswith(header.encode())
    rows = np.frombuffer(data[len(header) :], "<f4").reshape(3, len(names))
    table = dict(zip(names, rows.T, strict=True))
    np.testing.assert_array_equal(table["nx"], 0)
    np.testing.assert_array_equal(table["rot_0"], cloud.quats[:, 0])
    for channel in range(3):
        for k in range(1, 4):  # channel by channel
            name = f"f_rest_{channel * 3 + k - 1}"
            np.testing.assert_array_equal(table[name], cloud.sh[:, k, channel])


@pytest.mark.parametrize("kind", ["flat_0", "wire_1", "glass_0"])
def test_files_of_another_writer_come_back(kind, tmp_path):
    path = DATA / f"fitted_{kind}.ply"
    cloud = splat.read_ply(path)
    assert cloud.means.shape == (256, 3)
    splat.write_ply(tmp_path / "again.ply", cloud)
    ours, theirs = (tmp_path / "again.ply").read_bytes(), path.read_bytes()
    start = ours.index(b"end_header\n") + 11
    assert ours[:start] == theirs[:start]
    # Normals are zero, of either sign.
    np.testing.assert_array_equal(
        np.frombuffer(ours[start:], "<f4"), np.frombuffer(theirs[start:], "<f4")
    )


def written_by_hand(path, cloud, *, order="<", kind="float", names=None, extra=True):
    """A file with shuffled properties, extra elements and comments."""
    columns = {"x": cloud.means[:, 0], "y": cloud.means[:, 1], "z": cloud.means[:, 2]}
    columns |= {f"rot_{i}": cloud.quats[:, i] for i in range(4)}
    columns |= {f"f_dc_{i}": cloud.sh[:, 0, i] for i in range(3)}
    columns |= {f"scale_{i}": cloud.log_scales[:, i] for i in range(3)}
    columns |= {"opacity": cloud.opacity_logits, "label": np.arange(len(cloud.means))}
    names = names or sorted(columns)
    types = {"float": "f4", "double": "f8"}
    dtype = np.dtype([(n, order + ("u1" if n == "label" else types[kind])) for n in names])
    table = np.empty(len(cloud.means), dtype)
    for name in names:
        table[name] = columns[name]
    form = {"<": "binary_little_endian", ">": "binary_big_endian", "=": "ascii"}[order]
    header = ["ply", f"format {form} 1.0", "comment made by hand", "obj_info nothing"]
    if extra:
        header += ["element face 2", "property list uchar int vertex_indices"]
    header += [f"element vertex {len(table)}"]
    header += [f"property {'uchar' if n == 'label' else kind} {n}" for n in names]
    header += ["element camera 1", "property int width", "end_header"]
    with open(path, "wb") as file:
        file.write(("\r\n" if order == ">" else "\n").join(header).encode() + b"\n")
        if order == "=":
            file.write(b"3 0 1 2\n1 4\n" if extra else b"")
            for row in table:
                file.write(" ".join(repr(x.item()) for x in row).encode() + b"\n")
            file.write(b"640\n")
            return
        if extra:
            file.write(np.array([3], "u1").tobytes() + np.arange(3, dtype=order + "i4").tobytes())
            file.write(np.array([1], "u1").tobytes() + np.array([4], order + "i4").tobytes())
        file.write(table.tobytes() + np.array([640], order + "i4").tobytes())


@pytest.mark.parametrize("order", ["<", ">", "="])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_any_order_type_and_encoding(order, kind, tmp_path):
    cloud = any_cloud(4)
    written_by_hand(tmp_path / "a.ply", cloud, order=order, kind=kind)
    assert_same(read_ply(tmp_path / "a.ply"), cloud)


def test_refuses_a_plain_point_cloud(tmp_path):
    written_by_hand(tmp_path / "a.ply", any_cloud(4), names=["x", "y", "z", "f_dc_0"], extra=False)
    with pytest.raises(ValueError, match=r"lack opacity, scale_0, .*rot_3, f_dc_1, f_dc_2"):
        read_ply(tmp_path / "a.ply")


def test_refuses_truncated_files(tmp_path):
    splat.write_ply(tmp_path / "a.ply", any_cloud(10))
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="truncated: element vertex needs 680 bytes, found 679"):
        read_ply(tmp_path / "b.ply")
    (tmp_path / "c.ply").write_bytes(data[:60])
    with pytest.raises(ValueError, match="truncated: its header has no end_header"):
        read_ply(tmp_path / "c.ply")
    (tmp_path / "d.ply").write_bytes(b"solid\n" + data)
    with pytest.raises(ValueError, match="no PLY file"):
        read_ply(tmp_path / "d.ply")


def test_refuses_other_numbers_of_coefficients_and_lists(tmp_path):
    splat.write_ply(tmp_path / "a.ply", any_cloud(1, 1))
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(data.replace(b"property float f_rest_8\n", b""))
    with pytest.raises(ValueError, match="8 f_rest properties; there must be 0, 9, 24 or 45"):
        read_ply(tmp_path / "b.ply")
    (tmp_path / "c.ply").write_bytes(
        data.replace(b"property float nx", b"property list uchar float nx")
    )
    with pytest.raises(ValueError, match=r"no list properties, found \['nx'\]"):
        read_ply(tmp_path / "c.ply")


def test_refuses_missing_files_and_shapes(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_ply(tmp_path / "none.ply")
    cloud = any_cloud(3)
    with pytest.raises(ValueError, match=r"quats of 3 Gaussians must be \(3, 4\), got \(3, 3\)"):
        splat.write_ply(tmp_path / "a.ply", cloud._replace(quats=cloud.means))
    with pytest.raises(ValueError, match="sh holds 2 coefficients"):
        splat.write_ply(tmp_path / "a.ply", cloud._replace(sh=np.zeros((3, 2, 3))))
