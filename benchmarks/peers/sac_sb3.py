"""SAC of stable-baselines3, or of SBX (`sac_sb3.py sbx`), whose interface is the same.

Runs in an interpreter that has the peer, without jaxlab.
"""

import sys
import time
from importlib import metadata

import torch
from answering import serve
from stable_baselines3.common.evaluation import evaluate_policy

IS_SBX = sys.argv[1:] == ["sbx"]
if IS_SBX:
    import jax
    from sbx import SAC
else:
    from stable_baselines3 import SAC

torch.set_num_threads(1)
model = None


def make(hidden, lr, tau, batch_size, seed=0):
    """A learner on Pendulum-v1 that learns after 1,000 random steps, one update a step."""
    global model
    model = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        learning_rate=lr,
        batch_size=batch_size,
        tau=tau,
        learning_starts=1000,
        policy_kwargs={"net_arch": list(hidden)},
        seed=seed,
        **({} if IS_SBX else {"device": "cpu"}),
    )


def warm_up():
    """Fills the ring and compiles what there is to compile."""
    model.learn(1040)


def update(count, batch_size):
    """`count` updates, waited for."""
    model.train(gradient_steps=count, batch_size=batch_size)
    if IS_SBX:
        jax.block_until_ready(model.policy.actor_state.params)


def train(count):
    """`count` times a step and an update."""
    model.learn(count, reset_num_timesteps=False)
    if IS_SBX:
        jax.block_until_ready(model.policy.actor_state.params)


def solve(goal, episodes, every, most):
    """Learns until an evaluation reaches the goal; evaluations are not counted."""
    wall = cpu = 0.0
    steps, mean = 0, -float("inf")
    while mean < goal and steps < most:
        start, start_cpu = time.perf_counter(), time.process_time()
        model.learn(every, reset_num_timesteps=False)
        wall += time.perf_counter() - start
        cpu += time.process_time() - start_cpu
        steps += every
        if steps > 1000:
            mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=episodes, warn=False)
    return {"wall_s": wall, "cpu_s": cpu, "env_steps": steps, "reached": bool(mean >= goal)}


if __name__ == "__main__":
    serve(
        metadata.version("sbx-rl" if IS_SBX else "stable-baselines3"),
        {"make": make, "warm_up": warm_up, "update": update, "train": train, "solve": solve},
    )
