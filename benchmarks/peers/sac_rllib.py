"""SAC of RLlib. Runs in an interpreter that has `ray[rllib]`, without jaxlab.

By its stack of policies, whose networks are the usual ones: the critics of its newer stack encode
observation and action apart. Sampling and updates run in this process, one after the other.
"""

import os

os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

import ray
import torch
from answering import serve
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.execution.train_ops import train_one_step

torch.set_num_threads(1)
algorithm = None


def make(hidden, lr, tau, batch_size, seed=0):
    """A learner on Pendulum-v1 that learns after 1,000 random steps, one update a step."""
    global algorithm
    if not ray.is_initialized():
        local = {"include_dashboard": False, "log_to_driver": False}
        ray.init(num_cpus=1, _node_ip_address="127.0.0.1", **local)
    network = {"fcnet_hiddens": list(hidden), "fcnet_activation": "relu"}
    rates = dict.fromkeys(
        ("actor_learning_rate", "critic_learning_rate", "entropy_learning_rate"), lr
    )
    algorithm = (
        SACConfig()
        .api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        .framework("torch")
        .environment("Pendulum-v1")
        .env_runners(num_env_runners=0, rollout_fragment_length=1)
        .training(
            q_model_config=network,
            policy_model_config=network,
            optimization_config=rates,
            tau=tau,
            train_batch_size=batch_size,
            replay_buffer_config={"type": "MultiAgentReplayBuffer", "capacity": 10_000},
            num_steps_sampled_before_learning_starts=1000,
        )
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=1000)
        .debugging(seed=seed)
        .build_algo()
    )


def warm_up():
    """Fills the ring."""
    algorithm.train()


def update(count, batch_size):
    """`count` updates on rows drawn from its ring, targets included."""
    for _ in range(count):
        train_one_step(algorithm, algorithm.local_replay_buffer.sample(batch_size))
        algorithm.get_policy().update_target()


def train(count):
    """`count` times a step and an update."""
    for _ in range(count):
        algorithm.training_step()


if __name__ == "__main__":
    serve(ray.__version__, {"make": make, "warm_up": warm_up, "update": update, "train": train})
