"""Will it run here, and on what? Facts of the machine, what really loads, and what every stage will use."""

import logging
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bigstep import machine
from bigstep.records.sealed import Value
from bigstep.terminal import Terminal
from pipeline.doctor import attempt, gpus, words
from pipeline.doctor.advice import Advice, Choice, advice, choices, target_cpu
from pipeline.doctor.attempt import Running
from pipeline.doctor.facts import Facts
from pipeline.doctor.probes import CPU

log = logging.getLogger("bigstep.doctor")
LIMIT_S = 60.0  # PyTorch from a cold disk takes 20 s; TensorRT builds an engine even for the tiny model


class Diagnosis(Value):
    """What was found, and what follows from it."""

    facts: Facts
    stages: list[Choice]
    target_cpu: Choice
    advice: list[Advice]

    @property
    def healthy(self) -> bool:
        """Tell whether everything that serving needs loads and works."""
        return all(choice.uses for choice in self.stages if choice.name == "serve")

    def as_json(self) -> dict[str, Any]:
        """Return the diagnosis as plain values."""
        return {"healthy": self.healthy, **self.model_dump(mode="json")}

    def show(self) -> None:
        """Print the facts, the stages, and what to install for more."""
        console = Terminal()
        facts = Table(box=None, pad_edge=False, show_header=False)
        facts.add_column(no_wrap=True)
        facts.add_column(overflow="fold")
        for name, says in words.lines(self.facts):
            facts.add_row(name, _text(says, console))
        console.print(facts)
        stages = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("stage", "uses", "why"):
            stages.add_column(heading, no_wrap=heading == "stage", overflow="fold")
        for choice in self.stages:
            stages.add_row(
                choice.name,
                Text(choice.uses) if choice.uses else Text("cannot run", style="red"),
                _text(choice.why, console),
            )
        console.print(
            "",
            stages,
            "",
            f"compress.target_cpu = {self.target_cpu.uses}, {self.target_cpu.why}",
            sep="\n",
            markup=False,
        )
        for item in self.advice:
            console.print("", _text(f"{item.gain[0].upper()}{item.gain[1:]}:", console), sep="\n")
            console.print(f"  {item.do}", markup=False, soft_wrap=True)  # to be copied whole
        console.print(
            "",
            "[green]bigstep serve works here.[/]" if self.healthy else "[red]bigstep serve does not work here.[/]",
            sep="\n",
        )


def examine(missing: Mapping[str, list[str]], root: Path = machine.ROOT, *, limit_s: float = LIMIT_S) -> Diagnosis:
    """Look at the machine and try what serving and training need; takes about as long as importing PyTorch.

    Args:
        missing: the packages that each stage imports and that are not installed.
        root: the folder that stands for `/` where facts are read from files.
        limit_s: time for each probe, in seconds, above 0. A probe that takes longer is a finding.
    """
    log.info("trying what loads on this machine")
    described = machine.describe(root)  # first: what follows adds to the load
    started = {
        name: attempt.start(name, limit_s=limit_s) for name in ("onnxruntime", "torch", "server", "driver", "tensorrt")
    }
    smi = gpus.start(limit_s)
    running: list[Running] = [*started.values(), *([smi] if smi else [])]
    try:
        found = {"onnxruntime": attempt.read(started["onnxruntime"].end())}  # which says what else to try
        tried = {
            name: attempt.start("provider", name, limit_s=limit_s)
            for name in dict.fromkeys([*found["onnxruntime"].providers, CPU])
        }
        running += tried.values()
        providers = {name: attempt.read(probe.end()) for name, probe in tried.items()}
        found |= {name: attempt.read(probe.end()) for name, probe in started.items() if name not in found}
        listed, smi_says = gpus.read(smi.end()) if smi else ([], None)
    finally:
        for probe in running:
            probe.kill()
    facts = Facts(
        bigstep=machine.installed_version("bigstep") or "unknown",
        python=platform.python_version(),
        machine=described,
        gpus=listed,
        nvidia_smi=smi_says,
        providers=providers,
        missing=dict(missing),
        both_runtimes=None
        not in (machine.installed_version("onnxruntime"), machine.installed_version("onnxruntime-gpu")),
        **found,
    )
    return Diagnosis(facts=facts, stages=choices(facts), target_cpu=target_cpu(facts), advice=advice(facts))


def _text(says: str, console: Console) -> Text:
    """Return text that an output of any encoding takes; names and messages of others hold any character."""
    return Text(says.encode(console.encoding, "backslashreplace").decode(console.encoding))
