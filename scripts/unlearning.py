"""Making a language model forget: NPO, SimNPO and their baselines, claims N1 to N8 and S1 to S8.

python scripts/unlearning.py --preset=smoke
python scripts/unlearning.py --experiment=markov --preset=small
python scripts/unlearning.py --experiment=tofu --model_dir=llama2-tofu --method=npo+rt --lr=1e-5
python scripts/unlearning.py --experiment=muse --model_dir=llama2 --data_dir=muse/news --lr=1e-5
"""

from jaxlab.runs import launch
from jaxlab.unlearn import experiment

if __name__ == "__main__":
    launch("unlearning", experiment)
