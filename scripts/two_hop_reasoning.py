"""Two-hop reasoning in context, its phase transition and its mechanisms: claims C1 to C13.

python scripts/two_hop_reasoning.py --preset=smoke
python scripts/two_hop_reasoning.py --experiment=mechanisms --dim=128 --optimizer=adamw --lr=5e-4
python scripts/two_hop_reasoning.py --experiment=language --model_dir=models/Llama-2-7b-hf
"""

from jaxlab.runs import launch
from jaxlab.twohop import experiment

if __name__ == "__main__":
    launch("two_hop_reasoning", experiment)
