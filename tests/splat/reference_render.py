"""The renderer as a loop over pixels in NumPy, float64: slow, plain, and independent of jax."""

import numpy as np
from scipy.spatial.transform import Rotation

_C = (0.28209479177387814, 0.4886025119029199)


def basis(d):
    """The sixteen functions of the reference implementation's convention at a unit direction."""
    x, y, z = d
    return np.array(
        [
            _C[0],
            -_C[1] * y,
            _C[1] * z,
            -_C[1] * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    )


def render(cloud, camera, width, height, background=(0, 0, 0), eps2d=0.3, near=0.01):
    """`(rgb, alpha, depth)` of one view."""
    means, log_scales, quats, logits, sh = (np.asarray(x, np.float64) for x in cloud)
    viewmat, K = (np.asarray(x, np.float64) for x in camera)
    turn, eye = viewmat[:3, :3], -viewmat[:3, :3].T @ viewmat[:3, 3]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    splats = []
    for mean, log_scale, quat, logit, coefficients in zip(
        means, log_scales, quats, logits, sh, strict=True
    ):
        x, y, z = turn @ mean + viewmat[:3, 3]
        if z <= near:
            continue
        frame = Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix()
        sigma = frame @ np.diag(np.exp(2 * log_scale)) @ frame.T
        u, v = x / z, y / z
        margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
        u = np.clip(u, -cx / fx - margin_x, (width - cx) / fx + margin_x)
        v = np.clip(v, -cy / fy - margin_y, (height - cy) / fy + margin_y)
        jacobian = np.array([[fx / z, 0, -fx * u / z], [0, fy / z, -fy * v / z]])
        cov = jacobian @ turn @ sigma @ turn.T @ jacobian.T + eps2d * np.eye(2)
        direction = (mean - eye) / np.linalg.norm(mean - eye)
        color = np.maximum(basis(direction)[: len(coefficients)] @ coefficients + 0.5, 0)
        centre = np.array([fx * x / z + cx, fy * y / z + cy])
        splats.append((z, centre, np.linalg.inv(cov), 1 / (1 + np.exp(-logit)), color))
    splats.sort(key=lambda splat: splat[0])
    rgb, alpha, depth = np.zeros((height, width, 3)), np.zeros((height, width)), None
    depth = np.zeros_like(alpha)
    for i in range(height):
        for j in range(width):
            through = 1.0
            for z, centre, conic, opacity, color in splats:
                d = np.array([j + 0.5, i + 0.5]) - centre
                a = min(0.99, opacity * np.exp(-0.5 * d @ conic @ d))
                if a < 1 / 255:
                    continue
                if through * (1 - a) <= 1e-4:
                    break
                rgb[i, j] += a * through * color
                alpha[i, j] += a * through
                depth[i, j] += a * through * z
                through *= 1 - a
    return rgb + (1 - alpha)[..., None] * np.asarray(background), alpha, depth
