"""Classification from Gaussian-splat point clouds: claims S1 to S13.

python scripts/splat_classification.py --preset=smoke
python scripts/splat_classification.py --models=pointnet,dgcnn --feature_sets=p,posq
python scripts/splat_classification.py --experiment=folder --cloud_root=clouds --size=paper
"""

from jaxlab.runs import launch
from jaxlab.splat import experiment

if __name__ == "__main__":
    launch("splat_classification", experiment)
