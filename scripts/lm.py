"""Language models: measure the claims, or train, evaluate and generate on your own text.

    python scripts/lm.py                                  # every claim, on generated stories
    python scripts/lm.py --experiment=train --train=corpus.txt --workdir=out/mine
    python scripts/lm.py --experiment=generate --model=out/mine --prompt="Once upon a time"
    python scripts/lm.py --experiment=eval --model=path/to/hf/folder --valid=book.txt
    python scripts/lm.py --experiment=train --model=path/to/hf/folder --train=chats.jsonl \\
        --lora_rank=8 --seq_len=512

GPT-2's size from scratch: --preset=paper (pmap, bfloat16 on accelerators), with --train, --steps,
--grad_accum and so on as needed. The same command goes on after a kill, to the same numbers.
"""

from jaxlab.lm import experiment
from jaxlab.runs import launch

if __name__ == "__main__":
    launch("lm", experiment)
