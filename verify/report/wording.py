"""The words for outcomes and networks: the same in the report, in the card, and on the page of a CI job."""

ICONS = {"passed": "✔", "failed": "✘", "undecided": "?"}
ROLES = {
    "compact": "compressed",
    "dense": "uncompressed",
    "baseline": "conventional",
    "compact_baseline": "conventional, compressed",
}
NONE = "n/a"
