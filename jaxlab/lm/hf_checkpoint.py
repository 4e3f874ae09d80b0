"""Hugging Face model folders: config.json with safetensors, whole or in shards."""

import contextlib
import dataclasses
import os
import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxlab.checks import check_at_least
from jaxlab.lm.config import LMConfig
from jaxlab.lm.hf_config import config_from_hf, config_to_hf
from jaxlab.lm.hf_weights import Weight, base_prefix, weight_map
from jaxlab.lm.params import param_shapes
from jaxlab.runs import atomic
from jaxlab.user_files import read_json

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Buffers that some checkpoints carry beside their parameters.
_BUFFERS = re.compile(r"attn\.bias|attention\.bias|masked_bias|rotary_emb\.inv_freq")
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}


def load_hf(path: str | os.PathLike, *, dtype=None, shardings=None) -> tuple[LMConfig, dict]:
    """(config, parameters) of a folder with config.json and model.safetensors, or its shards.

    dtype: of the parameters; None keeps the file's. shardings: a pytree of shardings like the
    parameters, or one for all; every device's part is read from the file by itself, so that the
    whole model is never held by the host. Stop tokens of generation_config.json, where there is
    one, take the place of those in config.json, as they do when transformers generates.

    Raises FileNotFoundError with the path of a missing file, KeyError with the name of a missing
    tensor, ValueError with both shapes for a tensor of another shape, ValueError with the path of a
    truncated or foreign file, and ValueError for a model that is not covered. Warns of tensors
    that the model has no place for.
    """
    folder = Path(path)
    cfg = read_config(folder)
    weights = weight_map(cfg)
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, param_shapes(cfg), is_leaf=_is_shape)
    with _Tensors(folder) as tensors:
        names = [_find_names(weight, cfg, tensors) for weight in weights]
        _warn_of_the_rest(cfg, tensors, names)
        params = {}
        for weight, found in zip(weights, names, strict=True):
            leaf = _load_leaf(weight, found, tensors, dtype, _at(shardings, weight.path))
            _put(params, weight.path, leaf)
    return cfg, params


def save_hf(
    path: str | os.PathLike, cfg: LMConfig, params: dict, *, max_shard_bytes: int = 5 * 10**9
):
    """Writes config.json and safetensors that transformers and `load_hf` read, into a folder.

    Tensors go to model.safetensors, or, where they take more than max_shard_bytes, to numbered
    shards with an index. Weight files that stood in the folder are replaced. Raises ValueError
    when a checkpoint of cfg.model_type cannot express `cfg` (token_shift never can).
    """
    config = config_to_hf(cfg)
    check_at_least("max_shard_bytes", max_shard_bytes, 1)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    plan = _plan_shards(weight_map(cfg), params, max_shard_bytes)
    files = [_WEIGHTS]
    if len(plan) > 1:
        files = [f"model-{i + 1:05d}-of-{len(plan):05d}.safetensors" for i in range(len(plan))]
    for file, shard in zip(files, plan, strict=True):
        tensors = {name: _build_tensor(parts, params) for name, parts in shard.items()}
        draft = folder / f"{file}.tmp"
        try:
            save_file(tensors, draft, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, for one
            raise OSError(f"{draft} cannot be written: {error}") from error
    for file in files:
        os.replace(folder / f"{file}.tmp", folder / file)
    if len(plan) > 1:
        total = sum(_nbytes(parts, params) for shard in plan for parts in shard.values())
        places = {name: file for file, shard in zip(files, plan, strict=True) for name in shard}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        atomic.write_json(folder / _INDEX, index)
    else:
        (folder / _INDEX).unlink(missing_ok=True)
    for stale in folder.glob("model*.safetensors"):
        if stale.name not in files:
            stale.unlink()
    config["dtype" if "dtype" in config else "torch_dtype"] = str(params["embed"]["w"].dtype)
    atomic.write_json(folder / "config.json", config)


def read_config(folder: Path) -> LMConfig:
    """The config of a folder, with the stop tokens of generation_config.json if there is one."""
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"no config.json at {file}")
    cfg = config_from_hf(read_json(file))
    generation = folder / "generation_config.json"
    if generation.is_file():
        eos = read_json(generation).get("eos_token_id")
        if eos is not None:
            cfg = dataclasses.replace(cfg, eos_ids=tuple(eos) if isinstance(eos, list) else (eos,))
    return cfg


def _open(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{file} cannot be read: {error}; it is truncated or foreign") from error


class _Tensors(contextlib.ExitStack):
    """The tensors of a folder by name, read in slices; files stay open until the exit."""

    def __init__(self, folder: Path):
        super().__init__()
        self._files = {}
        index = folder / _INDEX
        if (folder / _WEIGHTS).is_file():
            shards = [_WEIGHTS]
        elif index.is_file():
            places = read_json(index)["weight_map"]
            shards = sorted(set(places.values()))
        else:
            raise FileNotFoundError(f"no {_WEIGHTS} and no {_INDEX} in {folder}")
        for shard in shards:
            file = folder / shard
            if not file.is_file():
                raise FileNotFoundError(f"the index names a shard that is missing: {file}")
            handle = self.enter_context(_open(file))
            self._files |= dict.fromkeys(handle.keys(), handle)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self):
        return iter(self._files)

    def slice(self, name: str):
        return self._files[name].get_slice(name)

    def dtype(self, name: str):
        kind = self.slice(name).get_dtype()
        if kind not in _DTYPES:
            raise ValueError(
                f"tensor {name} has dtype {kind}; supported: {', '.join(_DTYPES)} "
                "(quantized checkpoints are not)"
            )
        return _DTYPES[kind]


def _find_names(weight: Weight, cfg: LMConfig, tensors: _Tensors) -> list[str]:
    """The names of a weight's tensors as this checkpoint spells them, with their shapes checked."""
    found = []
    for name in weight.names:
        spellings = [name, name.removeprefix(base_prefix(cfg.model_type))]
        if cfg.model_type == "gpt_neox":
            spellings.append(name.replace("embed_out", "lm_head"))
        if weight.path[0] == "score":
            spellings.append("regression_head.weight")
        known = [spelling for spelling in spellings if spelling in tensors]
        if not known:
            raise KeyError(f"the checkpoint has no tensor {name}")
        shape = tuple(tensors.slice(known[0]).get_shape())
        if shape != weight.file_shape:
            raise ValueError(
                f"tensor {known[0]} has shape {shape}, but the config asks for shape "
                f"{weight.file_shape}"
            )
        found.append(known[0])
    return found


def _warn_of_the_rest(cfg: LMConfig, tensors: _Tensors, used: list[list[str]]):
    rest = set(tensors) - {name for names in used for name in names}
    rest = {name for name in rest if not _BUFFERS.search(name)}
    if cfg.tie_embeddings or cfg.num_labels:
        rest -= {"lm_head.weight", "embed_out.weight"}
    if rest:
        warnings.warn(
            f"{len(rest)} tensors of the checkpoint have no place in a {cfg.model_type} model of "
            f"this config and were not read: {', '.join(sorted(rest)[:5])}",
            stacklevel=3,
        )


def _load_leaf(weight: Weight, names: list[str], tensors: _Tensors, dtype, sharding) -> jax.Array:
    if dtype is None:
        dtype = jnp.result_type(*{np.dtype(tensors.dtype(name)) for name in names})
    dtype = jax.dtypes.canonicalize_dtype(dtype)

    def read(index):
        def one(name, part):
            value = weight.from_file(tensors.slice(name).__getitem__, part)
            return np.asarray(value, dtype)

        if weight.stacked:
            return np.stack([one(name, index[1:]) for name in names[index[0]]])
        return np.ascontiguousarray(one(names[0], index))

    return jax.make_array_from_callback(weight.shape, sharding, read, dtype=dtype)


def _plan_shards(weights: list[Weight], params: dict, max_bytes: int) -> list[dict]:
    """Shards in order, each {tensor name: [(weight, layer or None), ...]}, of at most max_bytes.

    A tensor larger than max_bytes has a shard of its own.
    """
    tensors = {}
    for weight in weights:
        value = _at(params, weight.path)
        if value.shape != weight.shape:
            raise ValueError(
                f"parameter {'/'.join(weight.path)} has shape {value.shape}, but the config asks "
                f"for shape {weight.shape}"
            )
        for layer, name in enumerate(weight.names):
            tensors.setdefault(name, []).append((weight, layer if weight.stacked else None))
    plan, used = [{}], 0
    for name, parts in tensors.items():
        size = _nbytes(parts, params)
        if plan[-1] and used + size > max_bytes:
            plan.append({})
            used = 0
        plan[-1][name] = parts
        used += size
    return plan


def _nbytes(parts, params) -> int:
    weight = parts[0][0]
    return int(np.prod(weight.file_shape)) * _at(params, weight.path).dtype.itemsize


def _build_tensor(parts, params) -> np.ndarray:
    weight = parts[0][0]
    # C order: safetensors writes the buffer as it lies, whatever its strides say.
    tensor = np.empty(weight.file_shape, _at(params, weight.path).dtype)
    for weight, layer in parts:
        value = _at(params, weight.path)
        weight.into_file(tensor, np.asarray(value if layer is None else value[layer]))
    return tensor


def _is_shape(node) -> bool:
    return isinstance(node, tuple)


def _at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def _put(tree, path, value):
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
