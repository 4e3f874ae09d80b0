"""Rotary settings of a Hugging Face config.json, in both dialects.

transformers 5 writes one dict `rope_parameters`; older files have `rope_theta`, `rope_scaling`
and a fraction key at top level. Both are read, and a config that came from a file is written in
the dialect of that file.
"""

from jaxlab.lm.config import LMConfig, RopeScaling

# Where the older dialect keeps the base and the rotated fraction, where not under the usual keys.
_OLD_THETA = {"gpt_neox": "rotary_emb_base"}
_OLD_FRACTION = {"gpt_neox": "rotary_pct"}
_DEFAULT_FRACTION = {"gpt_neox": 0.25, "phi": 0.5}

_LENGTH = "original_max_position_embeddings"
# The keys that a scaling type uses; all but _LENGTH are RopeScaling fields by the same name.
_KEYS = {
    "linear": ("factor",),
    "llama3": ("factor", _LENGTH, "low_freq_factor", "high_freq_factor"),
    "yarn": (
        "factor",
        _LENGTH,
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
    "longrope": ("factor", _LENGTH, "attention_factor", "short_factor", "long_factor"),
}


def rope_from_hf(config: dict, model_type: str, max_seq_len: int) -> dict:
    """The LMConfig fields rope_theta, rope_fraction and rope_scaling of a config.json.

    Raises ValueError for a rotary type that is not covered.
    """
    parameters = (config.get("rope_parameters") or {}) | (config.get("rope_scaling") or {})
    if any(isinstance(value, dict) for value in parameters.values()):
        raise ValueError(
            f"rotary settings per layer type are not supported, got {sorted(parameters)}; "
            "supported: one set for all layers"
        )
    theta = parameters.get("rope_theta")
    if theta is None:
        theta = config.get(_OLD_THETA.get(model_type, "rope_theta"))
    fraction = parameters.get("partial_rotary_factor")
    if fraction is None:
        fraction = config.get(_OLD_FRACTION.get(model_type, "partial_rotary_factor"))
    if fraction is None:
        fraction = _DEFAULT_FRACTION.get(model_type, 1.0)
    return {
        "rope_theta": 1e4 if theta is None else float(theta),
        "rope_fraction": float(fraction),
        "rope_scaling": _scaling_from_hf(config, parameters, model_type, max_seq_len),
    }


def rope_to_hf(cfg: LMConfig, original: dict) -> dict:
    """The rotary keys of config.json, in the dialect of `original`, or in both if it is empty."""
    scaling = _scaling_to_hf(cfg)
    kind = {"rope_type": "default" if cfg.rope_scaling is None else cfg.rope_scaling.kind}
    fraction_key = _OLD_FRACTION.get(cfg.model_type, "partial_rotary_factor")
    parameters = original.get("rope_parameters") or {}
    # A fraction of 1 where 1 is the default stays unwritten: some families do not know the key.
    fraction = {cfg.rope_fraction, _DEFAULT_FRACTION.get(cfg.model_type, 1.0)} != {1.0}
    out = {}
    if "rope_parameters" in original or not original:
        out["rope_parameters"] = parameters | kind | {"rope_theta": cfg.rope_theta} | scaling
        if fraction or "partial_rotary_factor" in parameters:
            out["rope_parameters"]["partial_rotary_factor"] = cfg.rope_fraction
    if "rope_parameters" not in original or "rope_scaling" in original:
        out[_OLD_THETA.get(cfg.model_type, "rope_theta")] = cfg.rope_theta
        out["rope_scaling"] = None
        if cfg.rope_scaling is not None:
            out["rope_scaling"] = (original.get("rope_scaling") or {}) | kind | scaling
        if fraction or fraction_key in original:
            out[fraction_key] = cfg.rope_fraction
    if _LENGTH in scaling and (cfg.model_type == "phi3" or _LENGTH in original):
        out[_LENGTH] = scaling[_LENGTH]
    return out


def _scaling_from_hf(config, parameters, model_type, max_seq_len) -> RopeScaling | None:
    kind = parameters.get("rope_type", parameters.get("type")) or "default"
    if model_type == "phi3" and kind in ("su", "yarn"):
        kind = "longrope"
    if kind == "default":
        return None
    if kind not in _KEYS:
        raise ValueError(
            f"rope type {kind!r} is not supported; supported: default, {', '.join(_KEYS)}"
        )
    fields = {key: parameters[key] for key in _KEYS[kind] if parameters.get(key) is not None}
    if kind != "linear":
        length = fields.pop(_LENGTH, None)
        # Phi-3 keeps the trained length at top level, and what stands there goes first.
        length = config.get(_LENGTH) or length or (4096 if model_type == "phi3" else max_seq_len)
        fields["original_max_seq_len"] = int(length)
    if kind == "yarn":
        fields.setdefault("factor", max_seq_len / fields["original_max_seq_len"])
    if kind == "longrope" and fields.get("factor") == 1:
        # RopeScaling takes a factor of 1 for one that is not given; here it was, and means 1.
        fields.setdefault("attention_factor", 1.0)
    return RopeScaling(kind, **fields)


def _scaling_to_hf(cfg: LMConfig) -> dict:
    scaling = cfg.rope_scaling
    if scaling is None:
        return {}
    names = {key: key for key in _KEYS[scaling.kind]}
    if _LENGTH in names:
        names[_LENGTH] = "original_max_seq_len"
    if scaling.kind == "longrope" and scaling.factor == 1:
        del names["factor"]
    values = {key: getattr(scaling, name) for key, name in names.items()}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value is not None
    }
