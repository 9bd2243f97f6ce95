"""The latency benchmark: what is counted, what is drawn, what is held back for want of queries, what is bounded."""

import logging
from math import comb, inf, isnan, nan

import numpy as np
import onnxruntime
import pytest
from scipy.signal import lfilter

from serve import bench
from serve.bench import TURN_QUERIES, WARM_UP_QUERIES, Timed, best_batches, fingerprint, measure_interleaved


class Clock:
    """Stand in for the time: it moves when a model is run."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Model:
    """Stand in for a predictor: note each batch, and take the time that `cost` gives for it."""

    def __init__(self, clock, cost=lambda _: 0.001, name="model", calls=None):
        self.clock, self.cost, self.name, self.calls = clock, cost, name, [] if calls is None else calls

    def predict(self, images):
        self.calls.append((self.name, images.ravel().tolist()))
        self.clock.now += self.cost(len(images))


def pixels(n):
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def measured(model, batch=1, queries=10, max_seconds=60.0, images=None):
    images = pixels(3) if images is None else images
    options = {"batches": {"model": batch}, "queries": queries, "max_seconds": max_seconds, "clock": model.clock}
    return measure_interleaved({"model": model}, images, **options)["model"]


def test_a_real_model(predictor, random_images):
    options = {"batches": {"model": 2}, "queries": 700, "max_seconds": 20.0}
    latency = measure_interleaved({"model": predictor}, random_images(10), **options)["model"].latency
    assert (latency.batch, latency.n) == (2, 700)
    assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
    assert latency.p99_low_ms <= latency.p99_ms <= latency.p99_high_ms
    assert 0 < latency.images_per_s_low < latency.images_per_s < (latency.images_per_s_high or inf)


@pytest.mark.parametrize(
    ("n", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_percentile_needs_enough_queries(n, p90, p99):
    latency = Timed(1, (0.001,) * n).latency
    assert latency.n == n
    assert (latency.p90_ms is not None, latency.p99_ms is not None) == (p90, p99)


def test_the_clock_reads_the_query():
    latency = measured(Model(Clock(), lambda _: 0.005), batch=4, queries=40).latency
    assert latency.p50_ms == pytest.approx(5.0) and latency.images_per_s == pytest.approx(800.0)
    assert latency.images_per_s_low == pytest.approx(800.0) == latency.images_per_s_high


def test_time_is_looked_at_between_rounds_and_the_warm_up_is_not_counted():
    model = Model(Clock(), lambda _: 0.01)
    timed = measured(model, queries=10_000, max_seconds=4.0)
    assert 4.0 / 0.01 / 1.1 - TURN_QUERIES <= len(timed.seconds) <= 4.0 / 0.01 + TURN_QUERIES
    assert len(model.calls) == WARM_UP_QUERIES + len(timed.seconds) * (TURN_QUERIES + 1) / TURN_QUERIES


def test_a_slow_model_is_warmed_up_twice_and_timed_at_least_once():
    model = Model(Clock(), lambda _: 30.0)
    assert measured(model, queries=700, max_seconds=2.0).seconds == (30.0,)
    assert len(model.calls) == 2 + 1 + 1


def test_large_images_are_not_all_drawn_at_once(monkeypatch):
    monkeypatch.setattr(bench, "TURN_BYTES", 5 * 7)
    model = Model(Clock())
    assert len(measured(model, batch=7, queries=13).seconds) == 13
    assert len(model.calls) == WARM_UP_QUERIES + 13 + 3, "three turns: five, five and three queries"


def test_the_draw_is_fixed_uniform_and_with_replacement():
    draws = []
    for _ in range(2):
        model = Model(Clock())
        measured(model, batch=3, queries=400, images=pixels(5))
        draws.append(model.calls)
    assert draws[0] == draws[1]
    values = [value for _, batch in draws[0] for value in batch]
    counts = np.bincount(values, minlength=5)
    assert counts.min() > 0.8 * len(values) / 5
    assert any(len(set(batch)) < 3 for _, batch in draws[0])


def test_models_take_turns_on_the_same_queries():
    clock, calls, names = Clock(), [], ["a", "b", "c"]
    models = {name: Model(clock, name=name, calls=calls) for name in names}
    options = {"batches": dict.fromkeys(names, 2), "queries": 40, "max_seconds": 60.0, "clock": clock}
    timed = measure_interleaved(models, pixels(9), **options)
    assert [len(one.seconds) for one in timed.values()] == [40, 40, 40] and list(timed) == names
    counted = calls[3 * WARM_UP_QUERIES :]
    turns = [name for i, (name, _) in enumerate(counted) if i == 0 or counted[i - 1][0] != name]
    assert "".join(turns) == "abcbabc"  # forwards, backwards, forwards: neighbours at a turn run on without a break
    by_model = [[batch for name, batch in counted if name == wanted] for wanted in names]
    assert by_model[0] == by_model[1] == by_model[2]


def test_models_may_have_batches_of_their_own():
    clock = Clock()
    models = {"small": Model(clock), "large": Model(clock)}
    options = {"batches": {"small": 1, "large": 8}, "queries": 20, "max_seconds": 60.0, "clock": clock}
    timed = measure_interleaved(models, pixels(9), **options)
    assert {name: {len(batch) for _, batch in model.calls} for name, model in models.items()} == {
        "small": {1},
        "large": {8},
    }
    assert timed["large"].latency.images_per_s == pytest.approx(8 * timed["small"].latency.images_per_s)


@pytest.mark.parametrize("wrong", [{"batches": {"model": 0}}, {"queries": 0}])
def test_nothing_to_measure(wrong):
    clock = Clock()
    options = {"batches": {"model": 1}, "queries": 1, "max_seconds": 1.0, "clock": clock} | wrong
    with pytest.raises(ValueError, match="at least one"):
        measure_interleaved({"model": Model(clock)}, pixels(2), **options)


def test_long_measurements_say_how_far_they_are(caplog):
    with caplog.at_level(logging.INFO, logger="bigstep.bench"):
        measured(Model(Clock(), lambda _: 0.1), batch=4, queries=10_000, max_seconds=9.0)
    told = [(record.done, record.total) for record in caplog.records]
    assert [total for _, total in told] == [9] * len(told) and 3 <= len(told) <= 5
    assert told == sorted(told) and told[-1][0] <= 9
    assert "batch 4" in caplog.text


def cost(overhead, per_image, knee=10**9):
    """Return the seconds of a batch: images beyond the knee cost five times as much."""
    return lambda n: overhead + per_image * (min(n, knee) + 5 * max(n - knee, 0))


@pytest.mark.parametrize(
    ("overhead", "per_image", "knee", "expected"),
    [
        (0.0, 0.001, 10**9, 1),  # nothing to gain: the smallest
        (0.010, 0.001, 10**9, 64),  # gains all the way
        (0.010, 0.001, 8, 8),  # no gain beyond 8
        (0.001, 0.000_999, 4, 4),
    ],
)
def test_the_best_batch_has_the_most_images_per_second(overhead, per_image, knee, expected):
    clock = Clock()
    model = Model(clock, cost(overhead, per_image, knee))
    found = best_batches({"model": model}, pixels(3), max_batch=64, max_seconds=1000.0, clock=clock)
    assert found == {"model": expected}
    tried = {len(batch) for _, batch in model.calls}
    assert tried == {2**k for k in range(7) if 2**k <= 4 * expected}, "two sizes without a gain end the search"


def test_each_model_has_a_best_batch_of_its_own_and_the_limit_is_kept():
    clock = Clock()
    models = {"flat": Model(clock, cost(0.0, 0.001)), "steep": Model(clock, cost(0.1, 0.001))}
    assert best_batches(models, pixels(3), max_batch=48, max_seconds=1000.0, clock=clock) == {"flat": 1, "steep": 32}
    assert max(len(batch) for _, batch in models["flat"].calls) == 4


def test_the_search_ends_in_time():
    clock = Clock()
    model = Model(clock, cost(1.0, 0.5))
    best_batches({"model": model}, pixels(3), max_batch=4096, max_seconds=30.0, clock=clock)
    assert clock.now - 100.0 < 2 * 30.0
    assert len(model.calls[0][1]) == 1


def test_a_single_size_needs_no_search():
    clock = Clock()
    assert best_batches({"model": Model(clock)}, pixels(3), max_batch=1, max_seconds=1.0, clock=clock) == {"model": 1}


def binomial(n, share, k):
    return comb(n, k) * share**k * (1 - share) ** (n - k)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [2, 10, 43, 44, 100, 458, 459, 661, 662])
def test_bounds_of_a_percentile_are_the_ranks_that_brute_force_finds(n, share):
    low, high = bench.percentile_bounds(tuple(float(rank) for rank in range(1, n + 1)), share)
    below = np.cumsum([binomial(n, share, k) for k in range(n + 1)])  # P(at most k values below the percentile)
    ranks_low = [k for k in range(1, n + 1) if 1 - below[k - 1] >= 0.99]  # the value of rank k is surely below it
    ranks_high = [k for k in range(1, n + 1) if below[k - 1] >= 0.99]
    assert low == (max(ranks_low) if ranks_low else None)
    assert high == (min(ranks_high) if ranks_high else None)
    assert (high is None) == (n < {0.5: 7, 0.9: 44, 0.99: 459}[share])  # the last two are those of MLPerf


def test_bounds_do_not_depend_on_the_order():
    values = np.random.default_rng(0).exponential(size=700)
    assert bench.percentile_bounds(tuple(values), 0.99) == bench.percentile_bounds(tuple(np.sort(values)), 0.99)


def test_bounds_of_a_percentile_hold_as_often_as_they_say():
    draw, trials, true = np.random.default_rng(1), 1000, -np.log(0.01)
    bounds = np.array([bench.percentile_bounds(tuple(draw.exponential(size=700)), 0.99) for _ in range(trials)])
    low, high = (bounds[:, 0] <= true).mean(), (bounds[:, 1] >= true).mean()
    assert 0.98 <= low < 1.0 and 0.98 <= high < 1.0


def disturbed(trials, dependence):
    """Return times of 700 queries per trial, around 1 ms; at 0.9 a disturbance lasts about ten queries."""
    draw = np.random.default_rng(2).exponential(size=(trials, 800)) - 1
    return 0.001 * (1 + 0.3 * lfilter([np.sqrt(1 - dependence**2)], [1, -dependence], draw)[:, 100:])


def test_bounds_of_a_percentile_suffer_where_slow_queries_come_together():
    """What docs/latency.md admits."""
    seconds = disturbed(1000, 0.9)
    bounds = [bench.percentile_bounds(tuple(row), 0.99)[1] for row in seconds]
    assert (np.array(bounds) >= np.quantile(seconds, 0.99)).mean() == pytest.approx(0.81, abs=0.03)


@pytest.mark.parametrize("dependence", [0.0, 0.9])
def test_bounds_of_the_throughput_hold_as_often_as_they_say(dependence):
    bounds = np.array([bench.throughput_bounds(tuple(row), 4) for row in disturbed(1000, dependence)])
    low, high = (bounds[:, 0] <= 4000.0).mean(), (bounds[:, 1] >= 4000.0).mean()
    assert 0.965 <= low < 1.0 and 0.965 <= high < 1.0


def test_bounds_suffer_where_disturbances_are_rarer_than_the_measurement_is_long():
    """What docs/latency.md admits: bursts of about ten queries, four times as slow, once in 500."""
    draw, trials, queries, p_start, p_end = np.random.default_rng(3), 600, 700, 1 / 500, 1 / 10
    slow = draw.random(trials) < p_start / (p_start + p_end)
    states = []
    for _ in range(queries):
        states.append(slow)
        slow = np.where(slow, draw.random(trials) >= p_end, draw.random(trials) < p_start)
    quick = 0.001 * draw.lognormal(0, 0.1, (trials, queries))
    seconds = quick * np.where(np.stack(states, axis=1), 4, 1)
    bounds = [(bench.percentile_bounds(row, 0.99)[1], bench.throughput_bounds(row, 1)[0]) for row in seconds]
    high, low = np.array(bounds).T
    assert (high >= np.quantile(seconds, 0.99)).mean() == pytest.approx(0.66, abs=0.05)
    assert (low <= 1 / seconds.mean()).mean() == pytest.approx(0.64, abs=0.05)


def test_bounds_of_the_throughput_need_parts_that_can_differ():
    assert bench.throughput_bounds((0.1,) * 19, 1) == (None, None)
    assert bench.throughput_bounds((0.1,) * 20, 1) == pytest.approx((10.0, 10.0))
    low, high = bench.throughput_bounds((0.001,) * 19 + (10.0,), 1)
    assert 0 < low < 2.0 and high is None


def test_nan_stays_nan():
    latency = Timed(1, (nan,) * 700).latency
    found = {k: v for k, v in vars(latency).items() if k not in ("batch", "n")}
    assert all(value is None or isnan(value) for value in found.values())


def test_the_fingerprint_names_the_machine():
    found = fingerprint(threads=2)
    assert found["onnxruntime"] == onnxruntime.__version__ and found["threads"].startswith("2 ")
    assert {"cpu", "cpus", "smt_siblings", "governor", "cgroup_cpus", "device", "kernel", "load"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_fingerprint_reads_what_the_kernel_says(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.os, "sched_getaffinity", lambda _: {0, 3})
    for cpu, governor in ((0, "powersave"), (1, "performance"), (3, "ondemand")):
        write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 2},{cpu % 2 + 2}\n")
        write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", governor)
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Abacus 3000\n")
    write(tmp_path, "proc/self/cgroup", "1:cpu:/old\n0::/job/step\n")
    write(tmp_path, "sys/fs/cgroup/job/cpu.max", "150000 100000\n")
    write(tmp_path, "sys/fs/cgroup/job/step/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "400000 100000\n")
    write(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.1.2  Tue\n")
    write(tmp_path, "proc/driver/nvidia/gpus/0000:01/information", "Model: \t\t NVIDIA H200\nIRQ: 1\n")
    found = fingerprint(device="cuda", root=tmp_path)
    assert found["cpu"] == "Abacus 3000" and found["cpus"].startswith("1 usable of")
    assert found["smt_siblings"] == "0,2; 1,3" and found["governor"] == "ondemand; powersave"
    assert found["cgroup_cpus"] == "1.50" and found["device"] == "cuda: NVIDIA H200, driver 570.1.2"


@pytest.mark.parametrize("content", ["max 100000\n", ""])
def test_the_fingerprint_admits_what_it_does_not_know(tmp_path, content):
    write(tmp_path, "sys/fs/cgroup/cpu.max", content)
    found = fingerprint(device="cuda", root=tmp_path)
    assert found["cgroup_cpus"] == "no limit"
    assert found["governor"] == found["smt_siblings"] == "unknown" and found["cpu"]
    assert found["device"] == "cuda: unknown model, driver unknown"
