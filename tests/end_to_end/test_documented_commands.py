"""Every `bigstep` line in the documentation is a command line that bigstep understands; cheap ones are run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipeline.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
EXEMPT = ("make", "docker", "curl", "git", "pip", "python", ".venv/bin/python", "nvidia-smi", "cd", "mkdir")
BIGSTEP = ("bigstep", ".venv/bin/bigstep")


def commands(page):
    """Return the commands of the ```sh blocks of a page, as lists of words."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                found.append(words)
    return found


def shown(value):
    """Name a test after the page and the command."""
    return value if isinstance(value, str) else " ".join(value)


ALL = [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in commands(page)]
OURS = [(page, words[1:]) for page, words in ALL if words[0] in BIGSTEP]


def parse(arguments):
    """Parse a command line as typer does, without running it; wrong ones raise."""
    group = typer.main.get_command(app)
    with group.make_context("bigstep", list(arguments)) as context:
        rest = [*context._protected_args, *context.args]
        name, command, rest = group.resolve_command(context, rest)
        return command.make_context(name, rest, parent=context)


def test_the_readme_shows_how_to_run_and_to_serve():
    readme = [words for page, words in OURS if page == "README.md"]
    assert {"init", "run", "serve"} <= {words[0] for words in readme}


@pytest.mark.parametrize(("page", "words"), ALL, ids=shown)
def test_every_command_is_ours_or_exempt(page, words):
    assert words[0] in (*BIGSTEP, *EXEMPT), f"{page}: {words[0]} is neither bigstep nor exempt"
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert targets
        for target in targets:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M), f"make has no {target}"


@pytest.mark.parametrize(("page", "arguments"), OURS, ids=shown)
def test_every_bigstep_line_is_understood(page, arguments):
    assert parse(arguments).info_name == arguments[0]


@pytest.mark.parametrize("wrong", [["run", "tiny", "--fast"], ["train"], ["frobnicate"], ["serve", "x", "--port", "x"]])
def test_the_check_itself_finds_wrong_lines(wrong):
    with pytest.raises(Exception, match=r"No such|Missing|valid"):
        parse(wrong)


def test_cheap_lines_run_as_they_stand(tmp_path):
    """`init` is run, every `run` as a dry run, in the order of the page and in an empty folder."""
    done = []
    script = Path(sys.executable).with_name("bigstep")
    for page, arguments in OURS:
        if page != "README.md" or arguments[0] not in ("init", "run"):
            continue
        extra = ["--dry-run"] if arguments[0] == "run" and "--dry-run" not in arguments else []
        ended = subprocess.run([script, *arguments, *extra], cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, f"bigstep {shlex.join(arguments)}: {ended.stderr}"
        done.append(arguments[0])
    assert "init" in done and "run" in done
    assert (tmp_path / "bigstep.toml").is_file() and not (tmp_path / "runs").exists()


def test_links_between_pages_lead_somewhere():
    missing = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert not missing
