"""From trained weights to an HTTP answer: the numbers are the same at both ends."""

import hashlib
import io
import signal

import httpx
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from bigstep.records.bundle import is_held
from serve.predictor import Predictor


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def ask(server, content, kind):
    answer = httpx.post(f"{server.url}/predict", content=content, headers={"Content-Type": kind}, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_served_bundle_answers_what_was_judged(server, small_run, stop):
    bundle, images = small_run.records["bundle"], small_run.records["data"]
    form = next(form for form in bundle.info.forms if form.name == bundle.info.served)
    served = hashlib.sha256((small_run.folder / "bundle" / form.file).read_bytes()).hexdigest()
    assert served == form.sha256 == bundle.info.verdict.judged[form.name]
    predictor = Predictor.open(small_run.folder / "bundle" / form.file, bundle.info.contract, sha256=served)
    test = images.split("test")
    batch = np.array(test.images[::500])
    logits = predictor.predict_all(batch)
    judged = np.load(small_run.records["verify"].folder / f"logits.{form.name}.npy")
    assert form.precision == "int8"  # whose sums are whole numbers: equal bits at every batch size, on every processor
    assert np.array_equal(logits, judged[::500]), "what is served is what the gate saw"
    expected = softmax(logits.astype(np.float64), axis=1)

    raw = ask(server, batch.tobytes(), "application/octet-stream")
    files = [ask(server, png(pixels), "image/png")["predictions"][0] for pixels in batch]
    assert raw["predictions"] == files and raw["model"]["sha256"] == served
    for answer, row in zip(files, expected, strict=True):
        found = [answer["probabilities"][label] for label in bundle.info.contract.labels]
        np.testing.assert_allclose(found, row, rtol=0, atol=1e-12)
        assert answer["index"] == row.argmax() and answer["label"] == bundle.info.contract.labels[row.argmax()]

    assert server.stop(stop) == ({signal.SIGTERM: 0, signal.SIGINT: 130}[stop], "", "")


def test_a_served_bundle_is_not_cleared_away(server, small_run):
    assert is_held(small_run.folder / "bundle")
    server.stop()
    assert not is_held(small_run.folder / "bundle")


def test_the_printed_query_works(server, small_run):
    """The summary offers the example image of the run folder; the served model reads it."""
    example = (small_run.folder / "example.png").read_bytes()
    answer = ask(server, example, "image/png")["predictions"][0]
    pixels = np.array(small_run.records["data"].split("test").images[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(example))), pixels)
    assert answer == ask(server, pixels.tobytes(), "application/octet-stream")["predictions"][0]


def test_the_chain_of_hashes_holds(small_run):
    """Every record names what it was made from, down to the images."""
    records = small_run.records
    made_from = dict(records["bundle"].info.made_from)
    assert len(made_from.pop("report")) == 64
    assert made_from == {name: records[name].digest for name in ("data", "train", "compress", "export", "verify")}
    compact, exported, verdict = (records[name].info for name in ("compress", "export", "verify"))
    assert compact.source == records["train"].info.chosen
    assert exported.form(exported.served).sha256 == compact.model.sha256
    assert {form.name: form.sha256 for form in exported.forms if form.name in verdict.judged} == verdict.judged
