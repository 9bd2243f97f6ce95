"""The latency benchmark: what is counted, what is drawn, what is held back for want of queries."""

import time

import numpy as np
import onnxruntime
import pytest

from serve.bench import ROUND_QUERIES, WARM_UP_QUERIES, fingerprint, measure, measure_interleaved


class Recorder:
    """Stand in for a predictor: note each batch; sleep before answering."""

    def __init__(self, name="model", calls=None, sleep_s=0.0):
        self.name, self.calls, self.sleep_s = name, [] if calls is None else calls, sleep_s

    def predict(self, images):
        self.calls.append((self.name, images.ravel().tolist()))
        time.sleep(self.sleep_s)


def pixels(n):
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def test_a_real_model(predictor, random_images):
    latency = measure(predictor, random_images(10), batch=2, min_queries=700, max_seconds=20.0)
    assert (latency.batch, latency.n) == (2, 700)
    assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
    assert latency.images_per_s > 0


@pytest.mark.parametrize(
    ("n", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_percentile_needs_enough_queries(n, p90, p99):
    latency = measure(Recorder(), pixels(3), batch=1, min_queries=n, max_seconds=60.0)
    assert latency.n == n
    assert (latency.p90_ms is not None, latency.p99_ms is not None) == (p90, p99)


def test_the_clock_reads_the_query():
    latency = measure(Recorder(sleep_s=0.005), pixels(3), batch=4, min_queries=8, max_seconds=60.0)
    assert 5.0 <= latency.p50_ms < 50.0
    assert 80.0 < latency.images_per_s <= 800.0


def test_time_runs_out_after_a_whole_round():
    recorder = Recorder(sleep_s=0.002)
    latency = measure(recorder, pixels(3), batch=1, min_queries=10_000, max_seconds=0.0)
    assert latency.n == ROUND_QUERIES
    assert len(recorder.calls) == WARM_UP_QUERIES + 1 + ROUND_QUERIES


def test_the_draw_is_fixed_uniform_and_with_replacement():
    draws = []
    for _ in range(2):
        recorder = Recorder()
        measure(recorder, pixels(5), batch=3, min_queries=400, max_seconds=60.0)
        draws.append(recorder.calls)
    assert draws[0] == draws[1]
    values = [value for _, batch in draws[0] for value in batch]
    counts = np.bincount(values, minlength=5)
    assert counts.min() > 0.8 * len(values) / 5
    assert any(len(set(batch)) < 3 for _, batch in draws[0])


def test_models_take_turns_on_the_same_queries():
    calls = []
    names = ["a", "b", "c"]
    measured = measure_interleaved(
        {name: Recorder(name, calls) for name in names}, pixels(9), batch=2, min_queries=40, max_seconds=60.0
    )
    assert [latency.n for latency in measured.values()] == [40, 40, 40] and list(measured) == names
    timed = calls[3 * WARM_UP_QUERIES :]
    turns = [name for i, (name, _) in enumerate(timed) if i == 0 or timed[i - 1][0] != name]
    assert "".join(turns) == "abcbabc"  # forwards, backwards, forwards: neighbours at a turn run on without a break
    by_model = [[batch for name, batch in timed if name == wanted] for wanted in names]
    assert by_model[0] == by_model[1] == by_model[2]


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"min_queries": 0}])
def test_nothing_to_measure(wrong):
    with pytest.raises(ValueError, match="at least one"):
        measure(Recorder(), pixels(2), **{"batch": 1, "min_queries": 1, "max_seconds": 1.0} | wrong)


def test_the_fingerprint_names_the_machine():
    found = fingerprint(threads=2)
    assert found["onnxruntime"] == onnxruntime.__version__ and found["threads"].startswith("2 ")
    assert {"cpu", "cpus", "kernel", "python", "numpy", "load"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
