"""Best-of-N at a fraction of its cost by speculative rejection: claims C1 to C10.

    python scripts/speculative_rejection.py --preset=smoke
    python scripts/speculative_rejection.py --experiment=text --preset=small --text=my_book.txt
    python scripts/speculative_rejection.py --experiment=own --lm_path=models/Llama-3-8B \\
        --reward_path=models/RM-Mistral-7B --prompts=alpaca_farm_100.json --preset=paper
"""

from jaxlab.align import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("speculative_rejection", experiment)
