"""Clock readings come back from their file as they were."""

import json

import pytest
from pydantic import ValidationError

from bigstep.records.measured import Latency, Measured

READING = Latency(
    batch=8,
    n=40,
    p50_ms=4.0,
    p90_ms=None,
    p99_ms=None,
    p99_low_ms=None,
    p99_high_ms=None,
    images_per_s=2000.0,
    images_per_s_low=1900.5,
    images_per_s_high=None,
)
FOUND = Measured(
    queries=40,
    seconds=2.0,
    latency={"compact-int8": READING.model_copy(update={"batch": 1})},
    throughput={"compact-int8": READING},
    fingerprint={"cpu": "Abacus 3000"},
)


def test_readings_come_back_as_they_were(tmp_path):
    FOUND.write(tmp_path / "one.json")
    assert Measured.read(tmp_path / "one.json") == FOUND
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_a_reading_that_nobody_knows_is_refused(tmp_path):
    path = tmp_path / "measured.json"
    FOUND.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"p50": 1.0}))
    with pytest.raises(ValidationError, match="p50"):
        Measured.read(path)
