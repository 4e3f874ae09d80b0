"""Fits Gaussian splats to a capture and writes a .ply (or .splat), with a page to look at it.

python scripts/splat_fit.py --format=object --capture=box_wire --out=box.ply
python scripts/splat_fit.py --format=transforms --capture=lego --preset=paper --downscale=4
python scripts/splat_fit.py --format=colmap --capture=garden --images=images_8 --preset=paper

The same command goes on after a kill, to the same numbers.
"""

from jaxlab.runs import launch
from jaxlab.splat import capture_fit

if __name__ == "__main__":
    launch("splat_fit", capture_fit)
