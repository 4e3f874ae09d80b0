"""High-throughput actor-critic training (Spreeze): asynchronous processes, pure update functions.

    from jaxlab import rl

    config = rl.SACConfig(obs_dim=3, act_dim=1, hidden=(64, 64))
    state = rl.sac_init(jax.random.key(0), config)
    state, metrics = rl.sac_update(jax.random.key(1), state, batch, config)

Names are imported when they are first used: the samplers must not import jax.
"""

import importlib

_HOMES = {
    "autotuning": ("autotune",),
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "data_parallel": ("make_pmap_step",),
    "device_envs": ("make_env",),
    "device_replay": ("ReplayState", "replay_add", "replay_init", "replay_sample"),
    "dual": ("DualState", "dual_init", "dual_merge", "dual_step"),
    "host": ("TrainResult", "train_host"),
    "host_config": ("HostConfig",),
    "host_policy": ("load_policy", "numpy_actor"),
    "networks": ("critic_apply", "polyak_update"),
    "on_device": (
        "OnDeviceConfig",
        "OnDeviceState",
        "evaluate_policy",
        "ondevice_init",
        "ondevice_run",
    ),
    "on_policy": (
        "OnPolicyConfig",
        "OnPolicyState",
        "onpolicy_init",
        "onpolicy_run",
        "ppo_epochs",
    ),
    "ppo": (
        "PPOBatch",
        "PPOConfig",
        "PPOOptimizers",
        "PPOState",
        "gae",
        "ppo_actor_loss",
        "ppo_critic_loss",
        "ppo_init",
        "ppo_policy_loss",
        "ppo_step",
        "value_apply",
    ),
    "placement": ("Placement", "make_placement"),
    "prefill": ("read_transitions",),
    "progress_log": ("EvalPoint",),
    "rates": ("Throughput", "sac_flops", "throughput"),
    "ray_samplers": ("RaySamplerPool",),
    "sac": (
        "Noise",
        "SACConfig",
        "SACOptimizers",
        "SACState",
        "actor_apply",
        "draw_noise",
        "policy_act",
        "sac_actor_loss",
        "sac_alpha_loss",
        "sac_critic_loss",
        "sac_init",
        "sac_step",
        "sac_targets",
        "sac_update",
        "sac_update_many",
    ),
    "sampler_pool": ("SamplerPool",),
    "settings": ("NetworkConfig", "OffPolicyConfig"),
    "shared_replay": ("ReplayHandle", "ReplaySpec", "SharedReplay"),
    "squashed_gaussian": ("squash_sample", "squashed_log_prob"),
    "td3": (
        "TD3Config",
        "TD3Optimizers",
        "TD3State",
        "ddpg_config",
        "td3_actor_apply",
        "td3_actor_loss",
        "td3_critic_loss",
        "td3_init",
        "td3_step",
        "td3_targets",
    ),
    "transition": ("Transition",),
    "tuning": ("TuneResult", "tune_batch_size", "tune_samplers"),
    "vec_env": ("StepOut", "make_vec_env"),
    "weight_board": ("BoardHandle", "WeightBoard"),
    "zoo": ("ZOO", "Tuned", "tuned_settings"),
}
_HOME_OF = {name: f"jaxlab.rl.{home}" for home, names in _HOMES.items() for name in names}
# Shared with the other rooms.
_HOME_OF |= dict.fromkeys(("replicate", "shard_batch"), "jaxlab.parallel")

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
