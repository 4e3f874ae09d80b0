"""Gaussian splats against PyTorch: the same renderer, PointNet step and DGCNN step, side by side.

    python benchmarks/splat_classification.py --workdir=out/benchmarks/splat

No rasterizer of the field runs without an NVIDIA GPU, so the peer of the renderer is a dense one in
PyTorch (every pixel meets every Gaussian), written here with the same equations; its image and ours
are compared. The peers of the classifiers are the published layouts in PyTorch. All run where jax
runs: on the GPU if there is one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from harness import parse_arguments, publish, side_by_side
from torch import nn

from jaxlab import splat
from jaxlab.runs import Claim, holds

SIZE = 64
DEVICE = torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")


def blob(count: int) -> splat.GaussianCloud:
    """Gaussians of 0.02 to 0.08 in a ball of deviation 0.4, float32 NumPy arrays."""
    rng = np.random.default_rng(count)
    leaves = (
        0.4 * rng.normal(size=(count, 3)),
        np.log(rng.uniform(0.02, 0.08, (count, 3))),
        rng.normal(size=(count, 4)),
        rng.normal(size=count),
        rng.normal(size=(count, 1, 3)),
    )
    return splat.GaussianCloud(*(x.astype(np.float32) for x in leaves))


def camera() -> splat.Camera:
    """One that looks at the blob."""
    K = np.array([[SIZE, 0, SIZE / 2], [0, SIZE, SIZE / 2], [0, 0, 1]], np.float32)
    return splat.Camera(np.asarray(splat.look_at((2.5, 0.3, 0.6))), K)


def torch_render(means, log_scales, quats, logits, sh, viewmat, K):
    """The dense renderer in PyTorch: `[SIZE, SIZE, 3]` on black."""
    w, x, y, z = nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    frame = torch.stack(rows, -1).reshape(-1, 3, 3) * log_scales.exp()[:, None]
    turn = viewmat[:3, :3]
    px, py, pz = (means @ turn.T + viewmat[:3, 3]).unbind(-1)
    zero = torch.zeros_like(pz)
    jacobian = torch.stack(
        [K[0, 0] / pz, zero, -K[0, 0] * px / pz**2, zero, K[1, 1] / pz, -K[1, 1] * py / pz**2], -1
    ).reshape(-1, 2, 3)
    half = jacobian @ turn @ frame
    cov = half @ half.mT + 0.3 * torch.eye(2, device=means.device)
    conic = torch.linalg.inv(cov)
    centre = torch.stack([K[0, 0] * px / pz + K[0, 2], K[1, 1] * py / pz + K[1, 2]], -1)
    color = (0.28209479177387814 * sh[:, 0] + 0.5).clamp(min=0)
    order = pz.argsort()
    centre, conic, color = centre[order], conic[order], color[order]
    opacity = torch.sigmoid(logits)[order]
    steps = torch.arange(SIZE, device=means.device) + 0.5
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 1, 2)
    dx, dy = (pixels - centre).unbind(-1)
    exponent = 0.5 * (conic[:, 0, 0] * dx * dx + conic[:, 1, 1] * dy * dy)
    raw = opacity * torch.exp(-(exponent + conic[:, 0, 1] * dx * dy))
    alpha = torch.where(raw < 1 / 255, 0.0, raw.clamp(max=0.99))
    after = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weight = torch.where(after > 1e-4, alpha * before, 0.0)
    return (weight @ color).reshape(SIZE, SIZE, 3)


def exact_capacity(cloud: splat.GaussianCloud, view: splat.Camera) -> int:
    """The smallest power of two that no tile exceeds."""
    capacity = 32
    while splat.render(cloud, view, SIZE, SIZE, tile_capacity=capacity).overflow > 0:
        capacity *= 2
    return capacity


def renderers(count: int, rounds: int):
    """Forward and backward of both renderers on one blob."""
    cloud, view = blob(count), camera()
    capacity = exact_capacity(cloud, view)

    def image(cloud):
        return splat.render(cloud, view, SIZE, SIZE, tile_capacity=capacity).rgb

    gradient = jax.jit(jax.grad(lambda cloud: (image(cloud) ** 2).sum()))
    ours = jax.tree.map(jnp.asarray, cloud)
    leaves = [torch.tensor(x, device=DEVICE, requires_grad=True) for x in cloud]
    pose = [torch.tensor(x, device=DEVICE) for x in view]

    def peer():
        for leaf in leaves:
            leaf.grad = None
        (torch_render(*leaves, *pose) ** 2).sum().backward()
        return leaves[0].grad.cpu().numpy()

    with torch.no_grad():
        theirs = torch_render(*leaves, *pose).cpu().numpy()
    error = float(np.abs(np.asarray(jax.jit(image)(ours)) - theirs).max())
    row = side_by_side(
        f"renderer, {count} Gaussians, {SIZE} x {SIZE}, forward and backward",
        functools.partial(gradient, ours),
        peer,
        f"dense PyTorch {torch.__version__}",
        rounds=rounds,
        note=f"up to {capacity} Gaussians a tile, none dropped; images differ by {error:.0e}",
    )
    return row, error


class TorchPointNet(nn.Module):
    """PointNet without its transforms, as published."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        layers = []
        for width in (64, 128, 1024):
            layers += [nn.Conv1d(channels, width, 1), nn.BatchNorm1d(width), nn.ReLU()]
            channels = width
        self.points = nn.Sequential(*layers[:-1])
        self.head = nn.Sequential(
            *(nn.Linear(1024, 512), nn.BatchNorm1d(512), nn.ReLU()),
            *(nn.Linear(512, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.4)),
            nn.Linear(256, classes),
        )

    def forward(self, positions, features):
        return self.head(self.points(features.mT).amax(-1))


class TorchDGCNN(nn.Module):
    """DGCNN as published: the edges are built, then convolved."""

    def __init__(self, channels: int, classes: int, neighbors: int = 20):
        super().__init__()
        self.neighbors = neighbors
        self.edges = nn.ModuleList()
        for width in (64, 64, 128, 256):
            convolution = nn.Conv2d(2 * channels, width, 1, bias=False)
            self.edges.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.LeakyReLU(0.2)))
            channels = width
        self.mix = nn.Sequential(
            nn.Conv1d(512, 1024, 1, bias=False), nn.BatchNorm1d(1024), nn.LeakyReLU(0.2)
        )
        self.head = nn.Sequential(
            *(nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512), nn.LeakyReLU(0.2)),
            nn.Dropout(0.5),
            *(nn.Linear(512, 256), nn.BatchNorm1d(256), nn.LeakyReLU(0.2)),
            nn.Dropout(0.5),
            nn.Linear(256, classes),
        )

    def forward(self, positions, features):
        x, space, levels = features, positions, []
        for edge in self.edges:
            near = torch.cdist(space, space).topk(self.neighbors, largest=False).indices
            rows = torch.arange(len(x), device=x.device)[:, None, None]
            centre = x[:, :, None].expand(-1, -1, self.neighbors, -1)
            pairs = torch.cat([x[rows, near] - centre, centre], -1).permute(0, 3, 1, 2)
            x = space = edge(pairs).amax(-1).mT
            levels.append(x)
        x = self.mix(torch.cat(levels, -1).mT)
        return self.head(torch.cat([x.amax(-1), x.mean(-1)], -1))


def classifiers(name: str, network, module: nn.Module, batch: int, points: int, rounds: int):
    """One Adam step of both on the same random batch."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(batch, points, 11)).astype(np.float32)
    labels = rng.integers(0, 20, batch).astype(np.int32)
    positions = np.ascontiguousarray(features[..., :3])
    key, tx = jax.random.key(0), optax.adam(1e-3)
    state = splat.init_train_state(key, network, tx, positions, features)
    step = splat.make_train_step(network, tx)
    operands = [jnp.asarray(x) for x in (positions, features, labels)]
    module = module.to(DEVICE).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    tensors = [torch.tensor(x, device=DEVICE) for x in (positions, features)]
    target = torch.tensor(labels, dtype=torch.long, device=DEVICE)
    ours, theirs = (
        sum(int(np.prod(x.shape)) for x in parameters)
        for parameters in (jax.tree.leaves(state.params), module.parameters())
    )
    if ours != theirs:
        raise ValueError(f"{name} has {ours} parameters here and {theirs} in PyTorch")

    def peer():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(*tensors), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return side_by_side(
        f"{name} step, {batch} x {points} points",
        functools.partial(step, state, key, *operands),
        peer,
        f"PyTorch {torch.__version__}",
        rounds=rounds,
        note=f"{ours / 1e6:.2f} M parameters, Adam",
    )


def main() -> None:
    arguments = parse_arguments(__doc__)
    rounds = arguments.rounds
    (few, few_error), (many, many_error) = (renderers(count, rounds) for count in (500, 2000))
    pointnet = classifiers(
        "PointNet without transforms",
        splat.make_classifier("pointnet", 20).clone(transform=None),
        TorchPointNet(11, 20),
        *(16, 512, rounds),
    )
    dgcnn = classifiers(
        "DGCNN", splat.make_classifier("dgcnn", 20), TorchDGCNN(11, 20), *(4, 256, rounds)
    )
    claims = [
        Claim(
            "S-speed-renderer",
            "The exact tiled renderer is eight times as fast as a dense one in PyTorch",
            "",
            f"{many.speedup:.1f}x at 2000 Gaussians, {few.speedup:.1f}x at 500",
            holds(many.speedup >= 8 and max(few_error, many_error) < 1e-4),
            detail=f"{SIZE} x {SIZE} pixels, forward and backward, none dropped. Criterion: >= 8 "
            "at 2000 Gaussians, images equal to 1e-4.",
        ),
        Claim(
            "S-speed-pointnet",
            "A PointNet step is as fast as PyTorch's",
            "",
            f"{pointnet.speedup:.2f}x",
            holds(pointnet.speedup >= 1),
            detail="16 objects of 512 points, 11 channels. Criterion: >= 1.",
        ),
        Claim(
            "S-speed-dgcnn",
            "A DGCNN step is three times as fast as PyTorch's",
            "",
            f"{dgcnn.speedup:.2f}x",
            holds(dgcnn.speedup >= 3),
            detail="4 objects of 256 points, 20 neighbours; ours factors the edge layer. "
            "Criterion: >= 3.",
        ),
    ]
    publish("Gaussian splats", [few, many, pointnet, dgcnn], claims, arguments.workdir)


if __name__ == "__main__":
    main()
