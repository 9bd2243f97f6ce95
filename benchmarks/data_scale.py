"""How the data stage scales: cached batches, the first epoch, and memory, side by side with the usual ways.

    .venv/bin/python benchmarks/data_scale.py

- cached batches: batches of random images out of the record's memory map, against the same array in memory, indexed by
  the same numbers; both get the same flips, crops and conversion.
- first epoch: from JPEG files (500 x 375 pixels, drawn) to every image handed out once, 224 pixels wide. Ours lists,
  hashes, decodes, judges and seals, then hands out from the cache; the other is torchvision's `ImageFolder` with
  `DataLoader`, which decodes as it goes. Pillow decodes and scales (bilinear) on both sides; flips and crops are equal.
- memory: the largest resident set of `bigstep data` on 1,000 to 100,000 image files, each in a process of its own.

Writes `results/data_scale.json` and `.md`. Files lie in a temporary folder, and in the page cache on all sides.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray
from PIL import Image

from bigstep import vision
from bigstep.config import Config, DataConfig
from bigstep.records.images import Images, SplitName
from pipeline.run import run as run_pipeline

HERE = Path(__file__).parent
SIDE_PX, CROP_PX, BATCH = 224, 208, 64
SPLITS: tuple[SplitName, ...] = ("train", "validation_biased", "validation", "test")
WORKERS = 2
TARGETS = {"cached batches": 0.95, "first epoch": 0.9}
FORMS = {"float": "`ToTensor` as documented", "uint8": "bytes from the workers, made floats by the main process"}
WHY = """Where workers send bytes they do nothing but decode, on all cores throughout. Ours decodes as fast, and beside
that hashes every file, writes the pixels and hashes them for the record, looks for look-alikes, and reads them again:
0.3 ms an image beside 1.5 ms of decoding (one thread, photographs of this size), so at most
0.85 to 0.9 is to be had."""
CHILD = """
import sys
from pathlib import Path
from bigstep.config import Config, DataConfig
from pipeline.run import run

def peak():
    return next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

before = peak()
data = DataConfig(kind="folder", path=sys.argv[1], size_px=32)
run(Config(device="cpu", data=data), Path(sys.argv[2]), until="data")
print(before, peak())
"""


def write_photos(folder: Path, count: int, size: tuple[int, int], rng: np.random.Generator) -> int:
    """Write JPEG files with structure at every scale, as photographs have, in two class folders; return their bytes."""
    width, height = size
    total = 0
    for number in range(count):
        pixels = np.zeros((height, width, 3))
        for octave in range(2, 9, 2):
            shape = (min(2**octave, height), min(2**octave, width), 3)
            noise = Image.fromarray(rng.integers(0, 256, size=shape, dtype=np.uint8))
            pixels += (np.asarray(noise.resize(size, Image.Resampling.BICUBIC), dtype=float) - 128) / 2 ** (octave / 2)
        path = folder / ("cat", "dog")[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(128 + 1.6 * pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
        total += path.stat().st_size
    return total


def augment(pixels_NHWC: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Crop and flip every image of a batch at random, and return float32 in [0, 1], (N, C, H, W)."""
    n, height, _, channels = pixels_NHWC.shape
    crop = height * CROP_PX // SIDE_PX
    tops, lefts = rng.integers(0, height - crop + 1, size=(2, n)).tolist()
    flips = (rng.random(n) < 0.5).tolist()
    pixels, out = torch.from_numpy(pixels_NHWC), torch.empty((n, crop, crop, channels), dtype=torch.uint8)
    for k, (top, left, flip) in enumerate(zip(tops, lefts, flips, strict=True)):
        part = pixels[k, top : top + crop, left : left + crop]
        out[k] = part.flip(1) if flip else part
    return as_float(out.permute(0, 3, 1, 2))


def as_float(batch: torch.Tensor) -> torch.Tensor:
    """Scale bytes to float32 in [0, 1], in one pass over the memory."""
    return torch.from_numpy(np.multiply(batch.numpy(), np.float32(1 / 255)))


def batches(pixels_NHWC: NDArray[np.uint8], count: int, rng: np.random.Generator) -> None:
    """Make batches of random images."""
    for _ in range(count):
        augment(pixels_NHWC[rng.integers(0, len(pixels_NHWC), size=BATCH)], rng)


def cached(images: Images, repeats: int) -> dict[str, Any]:
    """Time batches from the record's map and from memory, by turns; ratio = throughput of the map / of memory."""
    mapped = images.split("train").images
    sides = {"map": np.asarray(mapped), "memory": np.array(mapped)}  # as training takes the map: a plain view
    count = max(20, 40_000_000 // (BATCH * mapped[0].nbytes))
    times: dict[str, list[float]] = {"map": [], "memory": []}
    for repeat in range(repeats + 1):
        for side in ("map", "memory") if repeat % 2 else ("memory", "map"):
            start = time.perf_counter()
            batches(sides[side], count, np.random.default_rng(repeat))
            times[side].append(time.perf_counter() - start)
    ratios = [memory / map_ for memory, map_ in zip(times["memory"][1:], times["map"][1:], strict=True)]
    rate = {f"{side}_images_per_s": count * BATCH / statistics.median(times[side][1:]) for side in times}
    return {"side_px": int(mapped.shape[1]), "n": len(mapped), "batches": count, "ratios": ratios, **rate}


def build(photos: Path, out: Path, side_px: int) -> Images:
    """Run the data stage as the command does."""
    config = Config(device="cpu", data=DataConfig(kind="folder", path=str(photos), size_px=side_px))
    images = run_pipeline(config, out, until="data").data
    assert isinstance(images, Images)
    return images


def cpu_s() -> float:
    """Return the processor time of this process and of its ended children, which a busy machine changes less."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def our_epoch(photos: Path, out: Path) -> dict[str, float]:
    """Build the record and hand out every image once; return the seconds of both, and of the processor."""
    start, cpu = time.perf_counter(), cpu_s()
    images = build(photos, out, SIDE_PX)
    built = time.perf_counter()
    rng, count = np.random.default_rng(0), 0
    for name in SPLITS:
        pixels = images.split(name).images
        order = rng.permutation(len(pixels))
        for first in range(0, len(order), BATCH):
            count += len(augment(pixels[order[first : first + BATCH]], rng))
    assert count == sum(images.info.counts.values())
    return {"build": built - start, "epoch": time.perf_counter() - built, "cpu": cpu_s() - cpu}


def their_epoch(photos: Path, *, as_bytes: bool) -> dict[str, float]:
    """Hand out every image once from `ImageFolder`; return the seconds, and of the processor.

    Args:
        as_bytes: workers send uint8, a quarter of the bytes, and the main process makes floats of them; else the
            workers do, with `ToTensor`, as torchvision's documentation has it.
    """
    torchvision = vision.load()
    datasets, transforms = torchvision.datasets, torchvision.transforms
    to_tensor = transforms.PILToTensor() if as_bytes else transforms.ToTensor()
    steps = [transforms.Resize((SIDE_PX, SIDE_PX)), transforms.RandomCrop(CROP_PX), transforms.RandomHorizontalFlip()]
    start, cpu, count = time.perf_counter(), cpu_s(), 0
    folder = datasets.ImageFolder(str(photos), transforms.Compose([*steps, to_tensor]))
    for batch, _ in torch.utils.data.DataLoader(folder, batch_size=BATCH, shuffle=True, num_workers=WORKERS):
        count += len(as_float(batch) if as_bytes else batch)
    assert count == len(folder)
    return {"epoch": time.perf_counter() - start, "cpu": cpu_s() - cpu}


def first_epochs(photos: Path, out: Path, repeats: int) -> dict[str, Any]:
    """Time all three by turns; ratio = seconds of each `DataLoader` / seconds of ours."""
    ours: list[dict[str, float]] = []
    theirs: dict[str, list[dict[str, float]]] = {"uint8": [], "float": []}
    for repeat in range(repeats):
        shutil.rmtree(out, ignore_errors=True)
        for side in ("uint8", "ours", "float") if repeat % 2 else ("float", "ours", "uint8"):
            if side == "ours":
                ours.append(our_epoch(photos, out))
            else:
                theirs[side].append(their_epoch(photos, as_bytes=side == "uint8"))
    found: dict[str, Any] = {"ours_s": ours, "theirs_s": theirs, "workers": WORKERS, "ratios": {}, "cpu_ratios": {}}
    for form, times in theirs.items():
        pairs = list(zip(times, ours, strict=True))
        found["ratios"][form] = [t["epoch"] / (o["build"] + o["epoch"]) for t, o in pairs]
        found["cpu_ratios"][form] = [t["cpu"] / o["cpu"] for t, o in pairs]
    return found


def memory(folder: Path, counts: list[int], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield the largest resident set of the data stage over sets of small images, in fresh processes."""
    for count in counts:
        photos = folder / f"small-{count}"
        write_small(photos, count, rng)
        start = time.perf_counter()
        command = [sys.executable, "-c", CHILD, str(photos), str(folder / f"run-{count}")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        before, most = (1024 * int(word) for word in ended.stdout.split()[-2:])
        yield {"images": count, "imports_bytes": before, "peak_bytes": most, "seconds": time.perf_counter() - start}
        shutil.rmtree(photos)
        shutil.rmtree(folder / f"run-{count}")


def write_small(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Write JPEG files of 32 pixels: smooth noise, each another."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        pixels = Image.fromarray(rng.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)).resize((32, 32))
        pixels.save(folder / ("cat", "dog")[number % 2] / f"{number:06}.jpg")


def main() -> None:
    """Measure all three, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", type=int, nargs="*", default=[1000, 10_000, 100_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"command": " ".join([".venv/bin/python benchmarks/data_scale.py", *sys.argv[1:]])}
    found["machine"] = machine("Pillow", "torchvision")
    with tempfile.TemporaryDirectory(prefix="bigstep-data-scale-") as name:
        folder = Path(name)
        photos = folder / "photos"
        found["photos"] = {"n": options.photos, "bytes": write_photos(photos, options.photos, (500, 375), rng)}
        found["first epoch"] = first_epochs(photos, folder / "run", options.repeats)
        sys.stderr.write(f"first epoch: {found['first epoch']}\n")
        found["cached batches"] = []
        for side_px in (SIDE_PX, 32):
            images = build(photos, folder / f"run-{side_px}", side_px)
            found["cached batches"].append(cached(images, 4 * options.repeats))
            sys.stderr.write(f"cached batches: {found['cached batches'][-1]}\n")
        shutil.rmtree(photos)
        found["memory"] = []
        for one in memory(folder, options.small, rng):
            found["memory"].append(one)
            sys.stderr.write(f"memory: {one}\n")
            (HERE / "results" / "data_scale.json").write_text(json.dumps(found, indent=1) + "\n")
            (HERE / "results" / "data_scale.md").write_text(as_markdown(found))


def as_markdown(found: dict[str, Any]) -> str:
    """Return the tables that people read."""
    lines = ["# How the data stage scales", "", f"`{found['command']}`", ""]
    lines += [", ".join(f"{name} {value}" for name, value in found["machine"].items()) + ".", ""]
    photos, epoch = found["photos"], found["first epoch"]
    lines += ["| ratio of throughputs | against | median | lowest to highest | repeats | target |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for one in found["cached batches"]:
        what = f"batches of {BATCH} out of the cache, {one['side_px']} px, {one['n']:,} images"
        lines.append(_row(what, "the array in memory", one["ratios"], TARGETS["cached batches"]))
    what = f"first epoch of {photos['n']:,} JPEG files, {photos['bytes'] / photos['n'] / 1000:.0f} kB each"
    for form, says in FORMS.items():
        against = f"`ImageFolder` + `DataLoader`, {epoch['workers']} workers, {says}"
        lines.append(_row(what, against, epoch["ratios"][form], TARGETS["first epoch"]))
        lines.append(_row("the same, by processor time", "the same", epoch["cpu_ratios"][form], TARGETS["first epoch"]))
    build_s = statistics.median(one["build"] for one in epoch["ours_s"])
    ours_s = statistics.median(one["epoch"] for one in epoch["ours_s"])
    theirs = {form: statistics.median(one["epoch"] for one in times) for form, times in epoch["theirs_s"].items()}
    lines += ["", f"First epoch, medians: {build_s:.1f} s to build and {ours_s:.1f} s to hand out, against "]
    lines[-1] += " and ".join(f"{seconds:.1f} s ({form})" for form, seconds in theirs.items())
    lines[-1] += f". Every later epoch takes {ours_s:.1f} s again, against the whole time."
    lines += ["", WHY]
    lines += ["", "| images | peak resident MB | above imports, MB | seconds |", "| ---: | ---: | ---: | ---: |"]
    for one in found["memory"]:
        above = one["peak_bytes"] - one["imports_bytes"]
        lines.append(
            f"| {one['images']:,} | {one['peak_bytes'] / 1e6:.0f} | {above / 1e6:.0f} | {one['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _row(what: str, against: str, ratios: list[float], target: float) -> str:
    met = "met" if statistics.median(ratios) >= target else "missed"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"| {what} | {against} | {statistics.median(ratios):.2f} | {spread} | {len(ratios)} | {target}, {met} |"


if __name__ == "__main__":
    main()
