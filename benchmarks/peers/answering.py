"""The peer's end of `process`: one line of JSON in, one out. Imports nothing but Python's own."""

import json
import os
import sys
import time


def serve(version, functions):
    """Says the version, then answers `[name, arguments]` until the input ends.

    Args:
      version: of the peer.
      functions: by name; what one returns, a dict or None, goes into the answer beside the
        `wall_s` and `cpu_s` it took.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps({"version": version}), file=answers, flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        answer = functions[name](**arguments) or {}
        times = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(times | answer), file=answers, flush=True)
