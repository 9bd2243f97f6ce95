"""What is left to do when the trials are over: found once, kept, and not lost to what fails."""

import pytest

from bigstep.records.rate_map import FlowResult, SecondPhase
from bigstep.records.trained import Recipe
from train.measure import gradient_flow
from train.rate_map import tasks
from train.rate_map.numbers import Measured, Network
from train.rate_map.second_phase import Start
from train.rate_map.tasks import FlowStart, flow_steps, kept, work_through

RECIPE = Recipe(optimizer="sgd", rate=0.1)


def forbidden(*_arguments, **_more):
    raise AssertionError("found a second time")


def test_a_flow_is_bounded_by_images_and_by_steps(map_config, monkeypatch):
    monkeypatch.setattr(tasks, "FLOW_STEPS", 1000)
    seen = 20 * map_config.max_steps * map_config.batch_size
    assert flow_steps(map_config, 400) == min(1000, seen // 1600)
    assert flow_steps(map_config, 10**9) == 1
    assert flow_steps(map_config, 1) == 1000


def test_every_kind_of_task_is_done_and_kept(place, weights, monkeypatch):
    start = Start(RECIPE, 0, 2, weights, (0.05, 0.5), 12)
    todo = [Network("n", RECIPE, weights), start, FlowStart(1, 0.5, 2), FlowStart(0, 0.0, 2)]
    found = work_through(place, todo)
    assert isinstance(found.measured["n"], Measured) and found.failed == []
    assert [flow.seed for flow in found.flows] == [0, 1] and isinstance(found.flows[0], FlowResult)
    assert [row.rate for row in found.second] == [0.1] and isinstance(found.second[0], SecondPhase)
    for name in ("measure_network", "second_phase"):
        monkeypatch.setattr(tasks, name, forbidden)
    monkeypatch.setattr(gradient_flow, "critical_rate", forbidden)
    assert work_through(place, todo) == found


def test_the_critical_rate_is_that_of_steps_with_momentum(place):
    plain, heavy = (tasks.do(place, FlowStart(0, momentum, 2))[1] for momentum in (0.0, 0.9))
    assert heavy == plain  # what was kept is of the seed; the momentum of a map never changes
    (place.out / "flows" / "s0.json").unlink()
    assert tasks.do(place, FlowStart(0, 0.9, 2))[1].rate == pytest.approx(1.9 * plain.rate)


def test_what_fails_is_named_with_its_reason(place, tmp_path):
    missing = Start(RECIPE, 0, 2, tmp_path / "gone.safetensors", (0.05, 0.5), 12)
    found = work_through(place, [missing, FlowStart(0, 0.0, 2)])
    assert len(found.flows) == 1 and found.second == []
    assert len(found.failed) == 1 and found.failed[0].startswith("The second phase of 0.1 failed: ")
    assert "gone.safetensors" in found.failed[0]


def test_a_file_that_is_there_is_taken_and_one_that_is_not_is_made_at_once(place, tmp_path):
    value = Measured(name="n", numbers={"l2": 0.1, "worst_group": None}, missing={"a": "b"})
    file = tmp_path / "deep" / "n.json"
    assert kept(place, file, Measured, lambda: value) == value
    assert kept(place, file, Measured, forbidden) == value and [p.name for p in file.parent.iterdir()] == ["n.json"]


def test_two_may_make_the_same_file_at_once(place, tmp_path):
    value = Measured(name="n", numbers={"l2": 0.1}, missing={})
    file = tmp_path / "deep" / "n.json"
    assert kept(place, file, Measured, lambda: kept(place, file, Measured, lambda: value)) == value
    assert [p.name for p in file.parent.iterdir()] == ["n.json"]
