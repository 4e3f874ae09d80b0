"""Gaussian-splat point clouds: files, a differentiable renderer, fitting, classifiers.

```
from jaxlab import splat

cloud = splat.load_cloud("bonsai.ply")                       # or .splat, .spz
view = splat.Camera(splat.look_at((3.0, 0.0, 1.0)), K)
image = splat.render(cloud, view, width=640, height=480).rgb  # under jit, vmap, grad
features = splat.build_features(splat.normalize_cloud(cloud), "posq")  # [N, 11]
```

Ruiqi Zhang, Hao Zhu, Jingyi Zhao, Qi Zhang, Xun Cao, Zhan Ma, "Mitigating Ambiguities in 3D
Classification with Gaussian Splatting", CVPR 2025, arXiv 2503.08352. Splats follow Kerbl et al.,
"3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023, arXiv 2308.04079.
"""

from jaxlab.splat.ambiguous import sample_ambiguous_clouds
from jaxlab.splat.augmentation import augment_cloud
from jaxlab.splat.backbones import make_classifier, max_pool
from jaxlab.splat.cameras import look_at, orbit_cameras
from jaxlab.splat.captures import Capture, load_transforms
from jaxlab.splat.classifier_step import TrainState, init_train_state, make_train_step
from jaxlab.splat.colmap import ColmapModel, load_colmap
from jaxlab.splat.compositing import composite
from jaxlab.splat.densification import densify_and_prune, reset_opacity
from jaxlab.splat.features import (
    build_features,
    normalize_cloud,
    num_features,
    subsample_cloud,
)
from jaxlab.splat.files import load_cloud, load_cloud_folder
from jaxlab.splat.fit_state import FitConfig, FitState, init_fit_state
from jaxlab.splat.fitting import FitResult, fit, fit_states, fit_step
from jaxlab.splat.geometry import (
    CloudStats,
    ShapeStats,
    canonicalize_frames,
    cloud_statistics,
    covariance,
    shape_statistics,
    transform_cloud,
)
from jaxlab.splat.harmonics import eval_sh, rotate_sh
from jaxlab.splat.initialization import compact, init_cloud
from jaxlab.splat.losses import photometric_loss, psnr, ssim
from jaxlab.splat.metrics import ClsMetrics, classification_metrics
from jaxlab.splat.neighbors import (
    BallNeighbors,
    Neighbors,
    ball_query,
    farthest_point_sample,
    knn,
)
from jaxlab.splat.objects import ObjectSpec, make_object, sample_surface
from jaxlab.splat.ply import read_ply, write_ply
from jaxlab.splat.projection import Projection, project_gaussians
from jaxlab.splat.raytracing import trace_object
from jaxlab.splat.rendering import RenderOutput, render
from jaxlab.splat.rotations import quat_multiply, quat_to_rotmat, rotmat_to_quat
from jaxlab.splat.splat_file import read_splat, write_splat
from jaxlab.splat.spz import read_spz
from jaxlab.splat.training import ClsConfig, ClsResult, train_classifier
from jaxlab.splat.types import Camera, CloudDataset, GaussianCloud
from jaxlab.splat.viewer import write_viewer

__all__ = [
    "BallNeighbors",
    "Camera",
    "Capture",
    "CloudDataset",
    "CloudStats",
    "ClsConfig",
    "ClsMetrics",
    "ClsResult",
    "ColmapModel",
    "FitConfig",
    "FitResult",
    "FitState",
    "GaussianCloud",
    "Neighbors",
    "ObjectSpec",
    "Projection",
    "RenderOutput",
    "ShapeStats",
    "TrainState",
    "augment_cloud",
    "ball_query",
    "build_features",
    "canonicalize_frames",
    "classification_metrics",
    "cloud_statistics",
    "compact",
    "composite",
    "covariance",
    "densify_and_prune",
    "eval_sh",
    "farthest_point_sample",
    "fit",
    "fit_states",
    "fit_step",
    "init_cloud",
    "init_fit_state",
    "init_train_state",
    "knn",
    "load_cloud",
    "load_cloud_folder",
    "load_colmap",
    "load_transforms",
    "look_at",
    "make_classifier",
    "make_object",
    "make_train_step",
    "max_pool",
    "normalize_cloud",
    "num_features",
    "orbit_cameras",
    "photometric_loss",
    "project_gaussians",
    "psnr",
    "quat_multiply",
    "quat_to_rotmat",
    "read_ply",
    "read_splat",
    "read_spz",
    "render",
    "reset_opacity",
    "rotate_sh",
    "rotmat_to_quat",
    "sample_ambiguous_clouds",
    "sample_surface",
    "shape_statistics",
    "ssim",
    "subsample_cloud",
    "trace_object",
    "train_classifier",
    "transform_cloud",
    "write_ply",
    "write_splat",
    "write_viewer",
]
