"""SAC and TD3 written out in NumPy float64, with the gradient of TD3's actor by hand."""

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


def forward(params, x, names):
    """The input of each layer, ReLU between them, and the output of the last."""
    inputs = []
    for name in names:
        inputs.append(np.maximum(x, 0) if inputs else x)
        x = dense(params[name], inputs[-1])
    return inputs, x


def backward(params, inputs, names, slope):
    """Gradients of the layers and of the first one's input, from the slope at the output."""
    gradient = {}
    for i, name in reversed(list(enumerate(names))):
        gradient[name] = {"kernel": inputs[i].T @ slope, "bias": slope.sum(0)}
        slope = slope @ np.asarray(params[name]["kernel"], np.float64).T
        if i:
            slope = slope * (inputs[i] > 0)
    return gradient, slope


def td3_actor(actor, critic, obs, depth):
    """Minus the first critic's mean value of the actor's actions, and the actor's gradient."""
    hidden = [f"Dense_{i}" for i in range(depth)]
    first = {k: {n: np.asarray(a)[0] for n, a in layer.items()} for k, layer in critic.items()}
    actor_inputs, mean = forward(actor, obs, [*hidden, "mean"])
    action = np.tanh(mean)
    critic_inputs, q = forward(first, np.concatenate([obs, action], 1), [*hidden, "q"])
    slope = np.full(q.shape, -1 / len(q))
    _, slope = backward(first, critic_inputs, [*hidden, "q"], slope)
    slope = slope[:, obs.shape[1] :] * (1 - action**2)
    gradient, _ = backward(actor, actor_inputs, [*hidden, "mean"], slope)
    return -q.mean(), gradient


def squash(mean, log_std, eps):
    u = mean + np.exp(log_std) * eps
    normal = -0.5 * eps**2 - log_std - 0.5 * np.log(2 * np.pi)
    # 1 - tanh^2 = 1 / cosh^2, by exact logarithms
    log_cosh = np.abs(u) + np.log1p(np.exp(-2 * np.abs(u))) - np.log(2)
    return np.tanh(u), (normal + 2 * log_cosh).sum(1)
