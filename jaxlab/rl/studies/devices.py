"""C4 and C11: actor and critics on two devices, and one batch on several."""

import json
import os
import subprocess
import sys

from jaxlab.rl.child_process import child_path
from jaxlab.rl.rates import sac_flops
from jaxlab.rl.sac import SACConfig
from jaxlab.rl.studies.forced_devices import DEVICES, STEPS
from jaxlab.runs import Claim, Run, holds


def measure(config, run: Run) -> list[Claim]:
    """Equality with one device, and what the split could gain."""
    del config
    result = run.once("devices", _in_a_process_of_its_own)
    critic, actor = float(result["critic_s"]), float(result["actor_s"])
    gain = (critic + actor) / max(critic, actor)
    halves = sac_flops(SACConfig(17, 6), 1)
    ideal = sum(halves) / max(halves)
    dual, spread = float(result["dual"]), float(result["pmap"])
    return [
        Claim(
            "C4",
            "Two GPUs update actor and critics independently, for more throughput",
            "",
            f"equal to one device within {dual:.1e}; halves allow {gain:.2f}x",
            holds(dual <= 1e-6 and gain >= 1.5),
            detail=f"An analogue: devices forced on one processor share its cores, so equality is "
            f"measured ({STEPS} steps), and the halves alone (B = 1024, two times 256): critics "
            f"{1e3 * critic:.1f}, actor {1e3 * actor:.1f} ms of processor time; their products "
            f"allow {ideal:.2f}x. Criterion: <= 1e-6 and >= 1.5x. Wall time on "
            "two GPUs, >= 1.4x at batches of 8,192 and more: not run, the devices here are forced.",
        ),
        Claim(
            "C11",
            "A basis for distributed training",
            "",
            f"{DEVICES} devices equal one within {spread:.1e}",
            holds(spread <= 1e-5),
            detail=f"One batch of 256 rows over forced devices, parameters after {STEPS} steps. "
            "Criterion: <= 1e-5.",
        ),
    ]


def _in_a_process_of_its_own() -> dict[str, float]:
    """The number of devices is settled when jax starts."""
    flags = os.environ.get("XLA_FLAGS", "")
    finished = subprocess.run(
        [sys.executable, "-m", "jaxlab.rl.studies.forced_devices"],
        env=os.environ
        | {
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={DEVICES}",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": child_path(),
        },
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])
