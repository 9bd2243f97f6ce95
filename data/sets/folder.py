"""A user's own images: a CSV file that lists them, or class folders.

Shapes: N images, A bias attributes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.files import class_folders, csv_listing, set_findings
from data.files.builder import Built, Part, square
from data.files.deferred import Deferred
from data.files.findings import Finding, Level, quoted, refuse_errors, report
from data.files.hashing import hash_files, number_copies
from data.files.image_file import WARNINGS
from data.files.listing import Listing, Row, is_whole
from data.files.seen import Seen
from data.files.sources import source_folder
from data.files.splits import SHARES, draw
from data.files.writing import look_at

SIZE_PX = 64
TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Plan:
    """What follows from the rows of a listing without their pixels.

    `sources` numbers the different files, int64 (N,): equal bytes have one number. `columns` names the values of
    `label` and each attribute, and `codes` numbers them, int64 (N, 1 + A).
    """

    rows: Sequence[Row]
    sources: NDArray[np.int64]
    columns: Mapping[str, list[str]]
    codes: NDArray[np.int64]
    splits: Mapping[SplitName, NDArray[np.int64]]
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Judge:
    """The judgement of a listing, once each of its files has been decoded."""

    listing: Listing
    files: Deferred
    plan: Plan
    seed: int

    def __call__(self, seen: Seen) -> list[str]:
        """Return the report; a DataError has it where training would be meaningless."""
        unseen = np.flatnonzero(~seen.known_N)
        look_at(self.files[unseen], seen)  # images that rebalancing left out of every split
        plan, thumbs, flat = self.plan, seen.thumbs_NHWC, seen.flat_N
        found = [*self.listing.findings, *_file_findings(self.listing.rows, seen)]
        if seen.failures:  # the report is that of the set without them
            kept = [k for k in range(len(thumbs)) if k not in seen.failures]
            rows, thumbs, flat = [plan.rows[k] for k in kept], thumbs[kept], flat[kept]
            if not rows:
                refuse_errors(self.listing.origin, [*found, _nothing(self.listing)])
            plan = _plan(rows, self.listing.attributes, number_copies(self.files.sources.sha256[kept]), self.seed)
        found += [*_set_findings(plan, thumbs), *set_findings.flat_findings(plan.rows, flat)]
        refuse_errors(self.listing.origin, found)
        return report(found)


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read which images `data.path` lists; they become squares of `data.size_px` pixels, default 64.

    Splits that are not given are drawn from the seed, `validation_biased` always (see `data.files.splits`).

    Args:
        work: where an interrupted run goes on from.

    Raises:
        DataError: there is no image, or from `Built.judge`: training would be meaningless; the message is the whole
            report of what is wrong with the data.
    """
    listing = read(config)
    spec = square(config, SIZE_PX)
    hashed = hash_files(listing.root, [row.path for row in listing.rows], work)
    plan = _plan(listing.rows, listing.attributes, number_copies(hashed.sha256), config.seed)
    pixels = Deferred(hashed, np.arange(len(listing.rows)), spec)
    numbered = all(is_whole(row.id) for row in listing.rows)  # else the ids are places in the order of paths
    ids = np.array([int(row.id) if numbered else place for place, row in enumerate(listing.rows)], dtype=np.int64)
    return Built(
        name=quoted(listing.root.name),
        labels=plan.columns["label"],
        attributes={name: values for name, values in plan.columns.items() if name != "label"},
        input=spec,
        parts={
            name: Part(pixels[index], plan.codes[index, 0], plan.codes[index, 1:], ids[index], plan.sources[index])
            for name, index in plan.splits.items()
        },
        judge=Judge(listing, pixels, plan, config.seed),
    )


def files(config: DataConfig) -> Iterator[Path | str]:
    """Yield every file that the images are made from: the CSV file, if there is one, and the images it lists.

    As text also what lies beside the images and is spoken of in the findings: what is added there must not go unsaid.
    """
    listing = read(config)
    yield from [listing.table] if listing.table else []
    yield from (listing.root / row.path for row in listing.rows)
    yield from listing.aside


def read(config: DataConfig) -> Listing:
    """List the images without reading them: from a CSV file, or a folder with exactly one, or class folders.

    Raises:
        DataError: there is nothing to list, or a folder with several CSV files.
    """
    listing = _listing(config)
    if not listing.rows:
        refuse_errors(listing.origin, [*listing.findings, _nothing(listing)])
    return listing


def _nothing(listing: Listing) -> Finding:
    return Finding("error", "no image can be used", [listing.origin])


def _listing(config: DataConfig) -> Listing:
    named = Path(config.path).expanduser() if config.path else None
    place = named if named and named.is_file() else source_folder(config)
    if place.is_file():
        return csv_listing.read_listing(place, config.bias)
    visible = [p for p in place.iterdir() if p.is_file() and not p.name.startswith(".")]
    tables = sorted(p.name for p in visible if p.suffix.lower() in TABLES)
    if len(tables) > 1:
        raise DataError(
            f"{place} holds several CSV files",
            got=", ".join(map(quoted, tables)),
            do=f"--set data.path={place / tables[0]}, or move all but one out of the folder",
        )
    if tables:
        return csv_listing.read_listing(place / tables[0], config.bias)
    if config.bias:
        raise DataError(
            f"{place} holds class folders, which know no bias",
            got=", ".join(config.bias),
            do="list the images in a CSV file with columns path, label and these, or remove data.bias",
        )
    return class_folders.read_listing(place)


def _plan(rows: Sequence[Row], attributes: Sequence[str], sources_N: NDArray[np.int64], seed: int) -> Plan:
    columns, codes = codes_of(rows, attributes)
    splits, drawn = _splits(rows, codes, sources_N, np.random.default_rng(seed))
    return Plan(rows, sources_N, columns, codes, splits, drawn)


def _file_findings(rows: Sequence[Row], seen: Seen) -> Iterator[Finding]:
    """Say which files cannot be used and which were converted."""
    failed: defaultdict[str, list[str]] = defaultdict(list)
    for k, (what, got) in sorted(seen.failures.items()):
        failed[what].append(f"{quoted(rows[k].path)} ({got})")
    do = "mend these files, or remove them from the data"
    yield from (Finding("error", what, concerned, do) for what, concerned in sorted(failed.items()))
    for trait, places in sorted(seen.traits.items()):
        level: Level = "warning" if trait in WARNINGS else "note"
        paths = [rows[k].path for k in sorted(places)]
        yield Finding(level, f"images converted: {trait}", paths, WARNINGS.get(trait, ""))


def _set_findings(plan: Plan, thumbs_NHWC: NDArray[np.uint8]) -> list[Finding]:
    """Say what is wrong with the images as a set."""
    labels, bias = plan.codes[:, 0], plan.codes[:, 1:]
    held_out = np.zeros(len(labels), dtype=np.bool_)
    held_out[[*plan.splits["validation"], *plan.splits["test"]]] = True
    test = plan.splits["test"]
    return [
        *plan.findings,
        *set_findings.name_findings(plan.columns),
        *set_findings.class_findings(plan.columns["label"], labels, plan.splits),
        *set_findings.cell_findings(plan.columns, labels[test], bias[test]),
        *set_findings.copy_findings(plan.rows, plan.sources),
        *set_findings.alike_findings(plan.rows, thumbs_NHWC, plan.sources, held_out),
    ]


def codes_of(rows: Sequence[Row], attributes: Sequence[str]) -> tuple[dict[str, list[str]], NDArray[np.int64]]:
    """Number the labels and the values of every attribute, in the order of numbers or else of characters.

    Returns:
        The names by number of `label` and each attribute, and int64 (N, 1 + A).
    """
    texts = {"label": [row.label for row in rows]}
    texts |= {name: [row.bias[column] for row in rows] for column, name in enumerate(attributes)}
    columns, codes = {}, []
    for name, cells in texts.items():
        values = set(cells)
        numeric = all(is_whole(value) for value in values)
        columns[name] = sorted(values, key=lambda value: (int(value), value) if numeric else (0, value))
        number = {value: k for k, value in enumerate(columns[name])}
        codes.append([number[cell] for cell in cells])
    return columns, np.array(codes, dtype=np.int64).T


def _splits(
    rows: Sequence[Row], codes: NDArray[np.int64], sources_N: NDArray[np.int64], rng: np.random.Generator
) -> tuple[dict[SplitName, NDArray[np.int64]], list[Finding]]:
    """Draw every split that is not given from the images of train, or from all of them."""
    given = [row.split for row in rows]
    splits = {name: np.array([k for k, g in enumerate(given) if g == name], dtype=np.int64) for name in SHARES}
    pool = np.array([k for k, g in enumerate(given) if g in (None, "train")], dtype=np.int64)
    shares: dict[SplitName, int] = {n: part for n, part in SHARES.items() if n != "train" and not len(splits[n])}
    shares["train"] = 100 - sum(shares.values())
    cells = np.unique(codes, axis=0, return_inverse=True)[1].ravel()
    drawn = draw(codes[pool, 0], cells[pool], sources_N[pool], shares, rng)
    splits |= {name: pool[index] for name, index in drawn.items()}
    lacking = [f"{name}: {SHARES[name]} %" for name in ("validation", "test") if name in shares and any(given)]
    return splits, [
        Finding("warning", "splits that are not given, drawn from the images of train", lacking)
    ] if lacking else []
