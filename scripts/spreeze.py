r"""Parallel actor-critic training at the limit of one machine (Spreeze): claims C1 to C11.

python scripts/spreeze.py --preset=smoke
python scripts/spreeze.py --experiment=train --env_id=gym:HalfCheetah-v5 --batch_size=1024 --lr=1e-3
python scripts/spreeze.py --experiment=train --env_id=gym:Pendulum-v1 --mode=sync --max_updates=4000
python scripts/spreeze.py --experiment=train --mode=ondevice --algo=ppo --gamma=0.95 --lr=3e-3 \
    --rollout_steps=64
python scripts/spreeze.py --experiment=train --autotune --dashboard --record_every=5
python scripts/spreeze.py --experiment=train --n_samplers=8 --ray_address=auto
python scripts/spreeze.py --experiment=train --mode=pmap --coordinator_address=HOST:PORT \
    --num_processes=2 --process_id=0
"""

from jaxlab.rl import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("spreeze", experiment)
