"""SAC and TD3 written out in NumPy float64, with gradients by finite differences."""

import numpy as np


def dense(layer, x):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def trunk(params, x, depth):
    for i in range(depth):
        x = np.maximum(dense(params[f"Dense_{i}"], x), 0)
    return x


def actor(params, obs, depth):
    x = trunk(params, obs, depth)
    return dense(params["mean"], x), np.clip(dense(params["log_std"], x), -20, 2)


def critics(params, obs, action, depth):
    count = len(params["q"]["bias"])
    values = []
    for c in range(count):
        one = {k: {n: np.asarray(a)[c] for n, a in layer.items()} for k, layer in params.items()}
        x = trunk(one, np.concatenate([obs, action], 1), depth)
        values.append(dense(one["q"], x)[:, 0])
    return np.stack(values)


def squash(mean, log_std, eps):
    u = mean + np.exp(log_std) * eps
    normal = -0.5 * eps**2 - log_std - 0.5 * np.log(2 * np.pi)
    # 1 - tanh^2 = 1 / cosh^2, by exact logarithms
    log_cosh = np.abs(u) + np.log1p(np.exp(-2 * np.abs(u))) - np.log(2)
    return np.tanh(u), (normal + 2 * log_cosh).sum(1)
