"""Opacities as files hold them, in 0..1, and as clouds do, as logits."""

import numpy as np

_LEAST = 1e-6


def logit(opacity: np.ndarray) -> np.ndarray:
    """The logit of opacities, which stay 1e-6 away from 0 and 1."""
    opacity = np.clip(opacity, _LEAST, 1 - _LEAST)
    return np.log(opacity) - np.log1p(-opacity)
