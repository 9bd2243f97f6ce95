"""Files are told apart by their network and precision, and exactly one is what the others are compared with."""

import pytest

from bigstep.errors import RecordError
from bigstep.records.architecture import InputSpec
from bigstep.records.exported import Contract, ExportedInfo, Form


def form(network, role, precision):
    return Form(network=network, role=role, precision=precision, file=f"{network}.onnx", sha256="0" * 64, bytes=9)


COMPACT, DENSE = form("compact", "compact", "int8"), form("dense", "dense", "fp32")
RIVAL = form("sgd-0.01-compact", "compact_baseline", "int8")


def info(*forms):
    contract = Contract(input=InputSpec(height_px=2, width_px=2), labels=["a", "b"])
    return ExportedInfo(contract=contract, forms=list(forms), served="compact-int8", ladder=[])


def test_a_file_is_named_by_its_network_and_precision():
    assert [one.name for one in (COMPACT, DENSE, RIVAL)] == ["compact-int8", "dense-fp32", "sgd-0.01-compact-int8"]
    assert info(COMPACT, DENSE, RIVAL).form("sgd-0.01-compact-int8") is RIVAL


def test_the_dense_file_is_the_only_one_of_its_kind():
    assert info(COMPACT, DENSE).dense is DENSE
    for forms in ([COMPACT], [DENSE, DENSE]):
        with pytest.raises(RecordError, match="one uncompressed float32 file") as caught:
            assert info(*forms).dense
        assert "bigstep export CONFIG" in str(caught.value)
