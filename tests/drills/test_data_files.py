"""A file of the user's with a fault ends in one line that names the file and the fault."""

import io

import numpy as np
import pytest

from tests.drills.test_faults import SHORT, fails, train


def arrays(**values):
    with io.BytesIO() as buffer:
        np.savez(buffer, **values)
        return buffer.getvalue()


LABELS = np.array([1, -1, 1, -1])
PLY = b"""ply
format binary_little_endian 1.0
element vertex 10
property float x
property float y
property float z
end_header
"""

# System, flags, file, its content, what the line says.
CASES = [
    ("large_stepsize_gd", "--data={file}", "a.npz", None, "No such file"),
    (
        "large_stepsize_gd",
        "--data={file}",
        "a.npz",
        arrays(features=np.ones((4, 2)), y=LABELS),
        "a.npz has no array X; it holds features, y",
    ),
    (
        "large_stepsize_gd",
        "--data={file}",
        "a.npz",
        arrays(X=np.full((4, 2), np.nan), y=LABELS),
        "X holds nan or infinity, first in row 0",
    ),
    (
        "large_stepsize_gd",
        "--data={file}",
        "a.npz",
        arrays(X=np.ones((40, 2)))[:200],
        "a.npz is not a whole .npz file",
    ),
    ("large_stepsize_gd", "--data={file}", "a.txt", b"", "a.txt holds no samples"),
    (
        "large_stepsize_gd",
        "--data={file}",
        "a.txt",
        b"1 1:2.0\n-1 1:x\n",
        "a.txt, line 2: expected 'label index:value ...', got '-1 1:x'",
    ),
    (
        "large_stepsize_gd",
        "--data={file}",
        "a.txt",
        b"1 1:2.0\n-1 0:3\n",
        "a.txt, line 2: index 0 is below 1",
    ),
    (
        "icl_linear_block",
        "--experiment=tasks --data={file}",
        "a.npz",
        arrays(X=np.ones((4, 8)), y=np.ones((4, 8))),
        "a.npz: wanted X [tasks, N, d] and y [tasks, N], got (4, 8) and (4, 8)",
    ),
    (
        "trust_bandits",
        "--experiment=own --log={file}",
        "a.csv",
        b"arm,revenue\n0,1.0\n",
        "a.csv has no column reward",
    ),
    (
        "trust_bandits",
        "--experiment=own --log={file}",
        "a.csv",
        b"arm,reward\n0,1.0\n1,abc\n",
        "a.csv, line 3: reward is 'abc', not float",
    ),
    (
        "trust_bandits",
        "--experiment=own --returns={file}",
        "a.csv",
        b"policy_id,episode_return\n-1,1.0\n",
        "a.csv: policy_id must be >= 0, got -1",
    ),
    (
        "trust_bandits",
        "--experiment=own --returns={file}",
        "a.csv",
        b"policy_id,episode_return\n0,nan\n",
        "a.csv: episode_return holds NaN or infinity",
    ),
    (
        "trust_bandits",
        "--experiment=obd --obd={file}",
        "a.csv",
        b"timestamp,item_id,position,click\n1,1,1,0\n",
        "a.csv has no column propensity_score",
    ),
    (
        "trust_bandits",
        "--experiment=obd --obd={file}",
        "a.csv",
        b"item_id,position,click,propensity_score\n1,1,0,1.5\n",
        "propensity_score",
    ),
    ("trust_bandits", "--experiment=obd --obd={file}", "a.csv", None, "No such file"),
    (
        "splat_classification",
        "--experiment=folder --cloud_root={folder}",
        "own/chair/a.ply",
        PLY + b"\x00\x00",
        "a.ply is truncated: element vertex needs 120 bytes, found 2",
    ),
    (
        "splat_classification",
        "--experiment=folder --cloud_root={folder}",
        "own/chair/a.ply",
        b"v 1 2 3",
        "a.ply is no PLY file",
    ),
    ("splat_classification", "--experiment=folder --cloud_root=missing", "a", None, "missing"),
    ("lm", "--train={file}", "a.txt", b"", "a.txt is empty"),
    ("lm", "--train={file}", "a.txt", b"\xff\xfe\x00", "a.txt is not UTF-8 text"),
    ("lm", "--train={file}", "a.jsonl", b'{"text": "a"}\n{"tex": 1}\n', "a.jsonl:2 must be"),
    (
        "spreeze",
        "--experiment=train --prefill={file}",
        "a.npz",
        arrays(obs=np.ones((3, 3))),
        "a.npz has no array action, reward, next_obs, terminated",
    ),
]
# The same, of systems that need a model, too.
WITH_MODEL = [
    (
        "two_hop_reasoning",
        "--model_dir={model} --prompts_json={file}",
        "a.json",
        b'{"1": [{"prompt": "x"}]}',
        "K=1, entry 0 has no field question",
    ),
    (
        "unlearning",
        "--experiment=tofu --model_dir={model} --data_dir={folder}",
        "own/forget.jsonl",
        b'{"question": "q"}\n',
        "forget.jsonl:1 needs the field 'answer'",
    ),
    (
        "unlearning",
        "--experiment=tofu --model_dir={model} --data_dir={folder}",
        "own/forget.jsonl",
        b"",
        "forget.jsonl is empty",
    ),
    (
        "autoprm",
        "--preset=paper --model={model} --data={file}",
        "a.jsonl",
        b'{"question": "q", "answer": "no marks"}\n',
        "a.jsonl: row 1: the last line must be '#### value', got 'no marks'",
    ),
    (
        "autoprm",
        "--preset=paper --model={model} --data={file}",
        "a.jsonl",
        b'{"question": "q", "answer": \n',
        "a.jsonl:1",
    ),
    (
        "speculative_rejection",
        "--experiment=own --lm_path={model} --prompts={file}",
        "a.json",
        b'[{"text": "x"}]',
        'a.json has no text under "prompt"',
    ),
]


def check(start, tmp_path, system, flags, name, content, says, **more):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True, parents=True)
    if content is not None:
        file.write_bytes(content)
    given = flags.format(file=file, folder=tmp_path / "own", **more).split()
    fails(start(system, *given, f"--workdir={tmp_path / 'run'}"), f"{system}: error:", says)


@pytest.mark.parametrize(
    ("system", "flags", "name", "content", "says"),
    CASES,
    ids=[f"{system}: {says}" for system, *_, says in CASES],
)
def test_a_data_file_with_a_fault_is_named(start, tmp_path, system, flags, name, content, says):
    check(start, tmp_path, system, flags, name, content, says)


def test_a_data_file_with_a_fault_beside_a_model_is_named(start, tmp_path):
    model = train(start, tmp_path / "trained", *SHORT) / "artifacts" / "model"
    for number, case in enumerate(WITH_MODEL):
        check(start, tmp_path / str(number), *case, model=model)
