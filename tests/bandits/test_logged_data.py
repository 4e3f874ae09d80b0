import numpy as np
import pytest

from jaxlab import bandits

HEADER = ",timestamp,item_id,position,click,propensity_score,user_feature_0"


def write(path, *rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_open_bandit_file(tmp_path):
    path = write(
        tmp_path / "all.csv",
        '0,2019-11-24 00:00:00,14,3,0,0.0125,"abc, quoted"',
        "1,2019-11-24 00:00:01,5,1,1,0.0125,x",
    )
    log = bandits.load_open_bandit(path)
    np.testing.assert_array_equal(log.actions, [14, 5])
    np.testing.assert_array_equal(log.rewards, [0.0, 1.0])
    np.testing.assert_array_equal(log.positions, [3, 1])
    np.testing.assert_array_equal(log.propensities, [0.0125, 0.0125])
    assert log.num_arms == 15
    assert np.issubdtype(log.actions.dtype, np.integer)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["1,2"], "item_id,click", "no column position, propensity_score"),
        (["0,t,1,1,0,1.5,u"], HEADER, r"propensity_score must lie in \(0, 1\]"),
        (["0,t,1,1,0,0,u"], HEADER, "propensity_score must lie"),
        (["0,t,one,1,0,0.1,u"], HEADER, "line 2: item_id is 'one', not int"),
        (["0,t,-1,1,0,0.1,u"], HEADER, "item_id must be >= 0"),
        ([], HEADER, "has no rows"),
    ],
)
def test_open_bandit_faults(tmp_path, rows, header, message):
    path = write(tmp_path / "log.csv", *rows, header=header)
    with pytest.raises(ValueError, match=message):
        bandits.load_open_bandit(path)


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_returns_files(tmp_path, suffix):
    path = tmp_path / f"returns{suffix}"
    policy, returns = [2, 0, 2, 2], [1.0, -5.0, 2.0, 3.0]
    if suffix == ".csv":
        rows = [f"{p},{r}" for p, r in zip(policy, returns, strict=True)]
        write(path, *rows, header="policy_id,episode_return")
    else:
        np.savez(path, policy_id=np.array(policy), episode_return=np.array(returns))
    loaded = bandits.load_returns(path)
    np.testing.assert_array_equal(loaded.returns, [[-5, 0, 0], [0, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(loaded.mask.sum(1), [1, 0, 3])
    stats = bandits.returns_to_arms(loaded.returns, loaded.mask, sigma=1.0)
    np.testing.assert_allclose(stats.mean[np.array([0, 2])], [-5, 2])


def test_files_of_spreadsheets_and_unsigned_numbers(tmp_path):
    text = "policy_id,episode_return\n1,2.5\n0,1.5\n"
    (tmp_path / "returns.csv").write_text(text, encoding="utf-8-sig")  # with a byte order mark
    np.savez(
        tmp_path / "returns.npz",
        policy_id=np.array([1, 0], np.uint64),
        episode_return=np.array([2.5, 1.5]),
    )
    for suffix in (".csv", ".npz"):
        loaded = bandits.load_returns(tmp_path / f"returns{suffix}")
        np.testing.assert_array_equal(loaded.returns, [[1.5], [2.5]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"policy_id": [0]}, "no array episode_return"),
        ({"policy_id": [-1], "episode_return": [1.0]}, "policy_id must be >= 0, got -1"),
        ({"policy_id": [0.5], "episode_return": [1.0]}, "policy_id must hold integers"),
        ({"policy_id": [0], "episode_return": [np.nan]}, "episode_return holds NaN"),
        ({"policy_id": [0, 1], "episode_return": [1.0]}, r"\(2,\) and \(1,\)"),
    ],
)
def test_returns_faults(tmp_path, arrays, message):
    np.savez(tmp_path / "returns.npz", **{name: np.array(x) for name, x in arrays.items()})
    with pytest.raises(ValueError, match=message):
        bandits.load_returns(tmp_path / "returns.npz")


def test_missing_files_and_other_suffixes(tmp_path):
    for load, name in ((bandits.load_open_bandit, "a.csv"), (bandits.load_returns, "a.npz")):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name)
    with pytest.raises(ValueError, match=r"\.npz or \.csv"):
        bandits.load_returns(tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
@pytest.mark.parametrize("propensity", [None, [0.5, 0.5, 0.25], [0.5, 0.4, 0.25]])
def test_own_logs(tmp_path, suffix, propensity):
    path = tmp_path / f"log{suffix}"
    columns = {"arm": [3, 3, 0], "reward": [1.0, 0.0, -2.5]}
    if propensity:
        columns["propensity"] = propensity
    if suffix == ".csv":
        rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        write(path, *rows, header=",".join(columns))
    else:
        np.savez(path, **{name: np.array(x) for name, x in columns.items()})
    log = bandits.load_log(path)
    np.testing.assert_array_equal(log.actions, [3, 3, 0])
    np.testing.assert_array_equal(log.rewards, [1, 0, -2.5])
    assert log.num_arms == 4
    assert log.adaptive == (propensity == [0.5, 0.4, 0.25])
    if propensity is None:
        assert log.propensities is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arm": [0]}, "no array reward"),
        ({"arm": [-1], "reward": [1.0]}, "arm must be >= 0, got -1"),
        ({"arm": [0.5], "reward": [1.0]}, "arm must hold integers"),
        ({"arm": [0], "reward": [np.inf]}, "reward holds NaN"),
        ({"arm": [0, 1], "reward": [1.0]}, r"\(2,\) and \(1,\)"),
        ({"arm": [0], "reward": [1.0], "propensity": [0.0]}, "propensity must lie"),
        ({"arm": [0], "reward": [1.0], "propensity": [0.1, 0.2]}, r"propensity must be \(1,\)"),
    ],
)
def test_own_log_faults(tmp_path, arrays, message):
    np.savez(tmp_path / "log.npz", **{name: np.array(x) for name, x in arrays.items()})
    with pytest.raises(ValueError, match=message):
        bandits.load_log(tmp_path / "log.npz")


def test_minari_faults(tmp_path):
    with pytest.raises(ValueError, match="paths is empty"):
        bandits.load_minari_returns([])
    pytest.importorskip("minari")
    with pytest.raises(FileNotFoundError, match="holds no Minari dataset"):
        bandits.load_minari_returns([tmp_path])


@pytest.mark.filterwarnings("ignore")  # minari's own, on what a dataset may also say of itself
def test_minari_round_trip(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rewards = {"weak": [[1.0, 2.0], [0.5, 0.0]], "strong": [[5.0, 5.5], [4.0, 1.0], [3.0, 3.0]]}
    for name, episodes in rewards.items():
        buffers = [
            EpisodeBuffer(
                id=number,
                observations=[np.zeros(2, np.float32)] * 3,
                actions=[np.zeros(1, np.float32)] * 2,
                rewards=list(episode),
                terminations=[False, True],
                truncations=[False, False],
                infos={},
            )
            for number, episode in enumerate(episodes)
        ]
        minari.create_dataset_from_buffers(
            f"log/{name}-v0",
            buffer=buffers,
            observation_space=spaces.Box(-1, 1, (2,)),
            action_space=spaces.Box(-1, 1, (1,)),
        )
    folders = [tmp_path / "log" / f"{name}-v0" for name in rewards]
    loaded = bandits.load_minari_returns(folders)
    np.testing.assert_allclose(loaded.returns, [[3.0, 0.5, 0.0], [10.5, 5.0, 6.0]])
    np.testing.assert_array_equal(loaded.mask.sum(1), [2, 3])
