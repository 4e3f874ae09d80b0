"""LMConfig, the parameter tree that it implies, and config.json in both dialects."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxlab import lm
from tests.lm import peer_models, tiny


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 0},
        {"d_model": -1},
        {"n_layers": 0},
        {"n_heads": 0},
        {"n_kv_heads": 0},
        {"head_dim": 0},
        {"d_ff": 0},
        {"max_seq_len": 0},
        {"n_kv_heads": 3},
        {"windows": (5,)},
        {"windows": (5, -1, 0)},
        {"norm": "batch"},
        {"position": "alibi"},
        {"activation": "swish"},
        {"residual": "none"},
        {"qk_norm": "l2"},
        {"norm_eps": 0.0},
        {"rope_theta": -1.0},
        {"rope_fraction": 0.0},
        {"head_dim": 11},
        {"token_shift": -1},
        {"num_labels": -1},
        {"init_std": -0.1},
        {"windows": 5},
    ],
)
def test_nonsense_is_rejected_by_the_name_of_the_field(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        tiny.config(**change)


def test_rope_scaling_is_checked():
    with pytest.raises(ValueError, match="dynamic"):
        lm.RopeScaling("dynamic", factor=2.0)
    with pytest.raises(ValueError, match="original_max_seq_len"):
        lm.RopeScaling("llama3", factor=2.0)
    with pytest.raises(ValueError, match="factor"):
        lm.RopeScaling("linear", factor=0.0)
    scaling = lm.RopeScaling("longrope", original_max_seq_len=8, short_factor=(1.0,))
    with pytest.raises(ValueError, match="short_factor"):
        tiny.config(rope_scaling=scaling)


def test_config_is_hashable_and_ignores_its_source_text():
    scaling = lm.RopeScaling("linear", factor=2)
    a = tiny.config(rope_scaling=scaling, windows=[5, 0, 5], hf_json="{}")
    b = tiny.config(rope_scaling=scaling, windows=(5, 0, 5))
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_initial_parameters(variant):
    cfg = tiny.config(variant, init_std=0.5)
    params = lm.init_params(jax.random.key(0), cfg, dtype=jnp.bfloat16)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))
    assert np.all(np.asarray(params["final_norm"]["scale"]) == 1)
    assert ("head" in params) == (not cfg.tie_embeddings or cfg.head_bias)
    assert ("mlp_norm" in params["layers"]) == (cfg.residual != "parallel_shared")
    std = float(jnp.std(params["embed"]["w"].astype(jnp.float32)))
    assert abs(std - 0.5) < 0.03
    down = float(jnp.std(params["layers"]["mlp"]["w_down"].astype(jnp.float32)))
    assert abs(down - 0.5 / math.sqrt(6)) < 0.02
    if cfg.qkv_bias:
        assert not np.any(np.asarray(params["layers"]["attn"]["bq"]))
    assert lm.count_params(params) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{lm.count_params(params):,}" in lm.summary(cfg)


def test_flops_by_hand():
    cfg = tiny.config()  # D 48, H d 48, K d 24, F 80, V 97, L 3, gated
    matrices = 3 * (48 * (48 + 2 * 24) + 48 * 48 + 3 * 48 * 80) + 48 * 97
    assert lm.flops_per_token(cfg, 10.5) == 2 * matrices + 4 * 3 * 48 * 10.5
    assert lm.flops_per_token(tiny.config("gpt2"), 1) == 2 * (
        3 * (48 * 144 + 48 * 48 + 2 * 48 * 80) + 48 * 97
    ) + (4 * 3 * 48)


@pytest.mark.parametrize("case", [c for c in peer_models.CASES if not c.endswith("_labels")])
def test_round_trip_of_transformers_arguments(case):
    model_type, kwargs = peer_models.CASES[case]
    original = {"model_type": model_type, "transformers_version": "5.0", "my_own_key": [1]} | kwargs
    cfg = lm.config_from_hf(original)
    again = lm.config_to_hf(cfg)
    assert lm.config_from_hf(again) == cfg
    assert again["my_own_key"] == [1]
    for key, value in kwargs.items():
        if isinstance(value, dict):
            assert value.items() <= again[key].items()
        elif key != "max_window_layers":
            assert again[key] == value, key


def test_old_and_new_dialect_agree():
    sizes = peer_models.GQA | {"model_type": "llama"}
    long = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    long |= {"original_max_position_embeddings": 32}
    new = sizes | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5} | long}
    old = sizes | {"rope_theta": 5e5, "rope_scaling": {"type": "llama3"} | long}
    assert lm.config_from_hf(new) == lm.config_from_hf(old)
    assert lm.config_to_hf(lm.config_from_hf(old))["rope_scaling"]["type"] == "llama3"
    neox = peer_models.SIZES | {"model_type": "gpt_neox"}
    old = lm.config_from_hf(neox | {"rotary_pct": 0.5, "rotary_emb_base": 500})
    assert (old.rope_fraction, old.rope_theta) == (0.5, 500.0)
    assert lm.config_from_hf(neox).rope_fraction == 0.25
    phi = peer_models.SIZES | {"model_type": "phi"}
    assert lm.config_from_hf(phi).rope_fraction == 0.5
    assert lm.config_from_hf(phi | {"partial_rotary_factor": 0.25}).rope_fraction == 0.25


@pytest.mark.parametrize("kind", ["su", "yarn", "longrope"])
def test_phi3_kinds_mean_longrope_with_its_length_at_top_level(kind):
    config = peer_models.GQA | {
        "model_type": "phi3",
        "original_max_position_embeddings": 16,
        "rope_scaling": {"type": kind, "short_factor": [1] * 6, "long_factor": [2] * 6},
    }
    cfg = lm.config_from_hf(config)
    assert (cfg.rope_scaling.kind, cfg.rope_scaling.original_max_seq_len) == ("longrope", 16)


def test_stop_tokens_and_labels():
    assert tiny.config(eos_ids=np.int64(2)).eos_ids == (2,)
    llama = peer_models.GQA | {"model_type": "llama"}
    cfg = lm.config_from_hf(llama | {"eos_token_id": [2, 7]})
    assert cfg.eos_ids == (2, 7)
    assert lm.config_to_hf(cfg)["eos_token_id"] == [2, 7]
    assert lm.config_from_hf(llama | {"eos_token_id": None}).eos_ids == ()
    scored = llama | {"architectures": ["LlamaForSequenceClassification"]}
    assert lm.config_from_hf(scored).num_labels == 2
    cfg = lm.config_from_hf(scored | {"id2label": {"0": "reward"}})
    assert cfg.num_labels == 1
    assert lm.config_to_hf(cfg)["id2label"] == {"0": "reward"}


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_a_config_built_here_can_be_written(variant):
    cfg = tiny.config(variant)
    if cfg.token_shift:
        with pytest.raises(ValueError, match="token_shift"):
            lm.config_to_hf(cfg)
        return
    written = json.loads(json.dumps(lm.config_to_hf(cfg)))
    assert lm.config_from_hf(written) == cfg


def test_what_a_family_cannot_express_is_refused():
    with pytest.raises(ValueError, match="head_bias"):
        lm.config_to_hf(tiny.config(head_bias=True))
    with pytest.raises(ValueError, match="model_type"):
        lm.config_to_hf(tiny.config(model_type="my_own"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "bert"}, "gpt2, gpt_neox, llama"),
        ({"hidden_act": "mish"}, "gelu_new"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "linear, llama3, yarn"),
        ({"hidden_size": None}, "hidden_size"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "per layer type"),
    ],
)
def test_unsupported_configs_say_what_is_supported(change, match):
    with pytest.raises(ValueError, match=match):
        lm.config_from_hf(peer_models.GQA | {"model_type": "llama"} | change)


@pytest.mark.parametrize(
    "change",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"add_cross_attention": True},
    ],
)
def test_gpt2_attention_variants_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        lm.config_from_hf(peer_models.GPT2_SIZES | {"model_type": "gpt2"} | change)


@given(
    theta=st.floats(10, 1e6),
    window=st.integers(0, 9),
    eos=st.lists(st.integers(0, 96), max_size=3, unique=True),
    tie=st.booleans(),
    kv=st.sampled_from([1, 2, 4]),
)
def test_written_configs_read_back_equal(theta, window, eos, tie, kv):
    cfg = tiny.config(
        model_type="mistral",
        rope_theta=theta,
        windows=(window,) * 3 if window else (),
        eos_ids=tuple(eos),
        tie_embeddings=tie,
        n_kv_heads=kv,
    )
    again = lm.config_from_hf(json.loads(json.dumps(lm.config_to_hf(cfg))))
    assert again == cfg
    assert lm.config_from_hf(lm.config_to_hf(dataclasses.replace(again, d_ff=7))).d_ff == 7
