"""The Dockerfile, read: what can be checked without an engine, each check proved by a Dockerfile that it refuses.

That the images build and run is tested by .github/workflows/ci.yml.
"""

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
FOLDERS = {name.removesuffix("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
PINNED = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}

SERVERS, PIPELINES = ("server", "server-gpu", "release"), ("pipeline", "pipeline-gpu")
FINAL = (*SERVERS, *PIPELINES)
NOT_IN_A_SERVER = {"torch", "torchvision", "torch-pruning", "onnx", "onnxscript", "scikit-learn", "matplotlib"}
METADATA = {"pyproject.toml", "constraints.txt"}
LABELS = ("title", "description", "licenses", "version")


class Stage(NamedTuple):
    """Hold one FROM and what follows it, as (instruction, rest of the line)."""

    base: str
    lines: list[tuple[str, str]]

    def all(self, word):
        return [rest for instruction, rest in self.lines if instruction == word]


def parse(text):
    """Return the stages of a Dockerfile by name, ARGs before the first FROM filled in."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    text = re.sub(r"\\\s*\n\s*", "", text)
    arguments, stages, current = {}, {}, None
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name] = Stage(re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], base), [])
        elif current is None:
            arguments.update([rest.split("=", 1)])
        else:
            current.lines.append((word, rest.strip()))
    return stages


def whole(stages, name):
    """Return a stage with what it inherits before its own lines."""
    stage = stages[name]
    before = whole(stages, stage.base).lines if stage.base in stages else []
    return Stage(stage.base, [*before, *stage.lines])


def copied(stage):
    """Return (sources, named stage or None) of every COPY."""
    found = []
    for rest in stage.all("COPY"):
        words = rest.split()
        named = [word.removeprefix("--from=") for word in words if word.startswith("--from=")]
        sources = [word for word in words if not word.startswith("--")][:-1]
        found.append((sources, named[0] if named else None))
    return found


def installed(stages, name):
    """Return what pip was asked to install in a target and in the stages that it copies from."""
    stage, asked = whole(stages, name), []
    for rest in stage.all("RUN"):
        for options in re.findall(r"pip install ([^&|]*)", rest):
            options = re.sub(r"(-c|--extra-index-url) \S+", "", options).replace("'", "")
            asked += [word for word in options.split() if not word.startswith("--")]
    for _, source in copied(stage):
        if source in stages:
            asked += installed(stages, source)
    return asked


def requirements(asked):
    """Translate what pip was asked for into requirements of packages of others."""
    found = []
    for word in asked:
        extras = re.fullmatch(r"\.\[(.+)\]", word)
        if extras:
            found += PROJECT["dependencies"]
            for extra in extras[1].split(","):
                found += PROJECT["optional-dependencies"].get(extra, [])
        elif not word.startswith("/wheel/"):
            found.append(word)
    return found


def let_through(source, ignore):
    """Apply a .dockerignore of whole names: the last line that matches decides."""
    passed = True
    for line in ignore.split():
        if line.lstrip("!") in ("*", source.removeprefix("./")):
            passed = line.startswith("!")
    return passed


def context_faults(stages, ignore):
    """Find what cannot be copied, packages that are left out, and code that comes before the packages of others."""
    faults = [f"no target {name}" for name in FINAL if name not in stages]
    for name, stage in stages.items():
        local = [source for sources, named in copied(stage) if named is None for source in sources]
        faults += [f"{name}: {s} does not exist" for s in local if not (ROOT / s).exists()]
        faults += [f"{name}: .dockerignore stops {s}" for s in local if not let_through(s, ignore)]
        faults += [f"{name}: no stage {n}" for _, n in copied(stage) if n is not None and n not in stages]
        faults += [f"{name}: ADD" for _ in stage.all("ADD")]
        if any("-c constraints.txt" in rest for rest in stage.all("RUN")):
            early = {s for sources, _ in copied(whole(stages, name)) for s in sources} - METADATA
            faults += [f"{name}: {s} comes before the packages" for s in sorted(early)]
            made = " ".join(rest for rest in whole(stages, name).all("RUN") if rest.startswith("touch"))
            faults += [f"{name}: the file {file} is not made" for file in ("README.md", "LICENSE") if file not in made]
    if "wheel" in stages:
        ours = {s.removeprefix("./") for sources, _ in copied(stages["wheel"]) for s in sources}
        faults += [f"wheel: {folder} is not copied" for folder in sorted(FOLDERS - ours)]
    return faults


def package_faults(stages, brought_in):
    """Find unknown names, two onnxruntimes in one image, torch in a server."""
    extras, declared = PROJECT["optional-dependencies"], set(PINNED)
    for group in (PROJECT["dependencies"], *extras.values()):
        declared |= {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in group}
    faults = []
    for name in FINAL:
        asked = installed(stages, name) if name in stages else []
        for word in asked:
            named = re.fullmatch(r"\.\[(.+)\]", word)
            unknown = set(named[1].split(",")) - set(extras) if named else {word} - declared - {"/wheel/*.whl"}
            faults += [f"{name}: pip knows no {u} of ours" for u in sorted(unknown)]
        names = brought_in(requirements(asked))
        runtimes = sorted(names & {"onnxruntime", "onnxruntime-gpu"})
        faults += [f"{name}: {len(runtimes)} onnxruntimes"] if len(runtimes) != 1 else []
        faults += [f"{name}: {n} in a server" for n in sorted(names & NOT_IN_A_SERVER) if name in SERVERS]
        faults += [f"{name}: no {n}" for n in sorted({"torch", "onnx"} - names) if name in PIPELINES]
        faults += [f"{name}: bigstep is not installed"] if "/wheel/*.whl" not in asked else []
    return faults


def last(stage, word):
    found = stage.all(word)
    return found[-1] if found else ""


def runtime_faults(stages, understood):
    """Find a root user, a command that bigstep does not know, a health check of another port, missing labels."""
    faults = []
    for name in FINAL:
        stage = whole(stages, name) if name in stages else Stage("", [])
        user = re.fullmatch(r"(\d+)(:\d+)?", last(stage, "USER"))
        faults += [] if user and int(user[1]) else [f"{name}: USER is not a number above 0"]
        environment = " ".join(stage.all("ENV"))
        faults += [f"{name}: {v}" for v in ("HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1") if v not in environment]
        labels = " ".join(stage.all("LABEL"))
        faults += [f"{name}: no label {n}" for n in LABELS if f'image.{n}="' not in labels]
        faults += [] if f'version="{PROJECT["version"]}"' in labels else [f"{name}: another version"]
        faults += [] if f'licenses="{PROJECT["license"]}"' in labels else [f"{name}: another licence"]
        signal = "SIGTERM" if name in SERVERS else "SIGINT"
        faults += [] if last(stage, "STOPSIGNAL") == signal else [f"{name}: is not stopped by {signal}"]
        faults += command_faults(name, stage, understood)
    return faults


def command_faults(name, stage, understood):
    try:
        command = json.loads(last(stage, "ENTRYPOINT")) + json.loads(last(stage, "CMD"))
        context = understood(command[1:])
    except json.JSONDecodeError:
        return [f"{name}: ENTRYPOINT and CMD are not in exec form"]
    except Exception as error:  # typer has a type for every mistake
        return [f"{name}: bigstep does not understand it: {error}"]
    if name in PIPELINES:
        return [] if context.info_name == "run" else [f"{name}: does not run"]
    faults = [] if context.info_name == "serve" else [f"{name}: does not serve"]
    port, check = last(stage, "EXPOSE"), last(stage, "HEALTHCHECK")
    faults += [] if str(context.params.get("port")) == port else [f"{name}: EXPOSE is another port"]
    faults += [] if f"http://127.0.0.1:{port}/health/ready" in check else [f"{name}: HEALTHCHECK asks another address"]
    device = "cuda" if name == "server-gpu" else "cpu"
    faults += [] if context.params.get("device") == device else [f"{name}: serves on another device than {device}"]
    faults += [] if re.search(r'CMD \["', check) else [f"{name}: HEALTHCHECK is not in exec form"]
    return faults


def tidiness_faults(stages):
    """Find secrets, caches and compilers, and differences between an image and its variant for GPUs."""
    faults = []
    for name, stage in stages.items():
        for rest in [*stage.all("ARG"), *stage.all("ENV")]:
            faults += [f"{name}: {s}" for s in re.findall(r"\w*(?:TOKEN|PASSWORD|SECRET|API_KEY)\w*", rest)]
        runs = "\n".join(stage.all("RUN"))
        faults += [f"{name}: {c}" for c in re.findall(r"\bbuild-essential\b|\bg?cc\b|\bgit\b|\bcurl\b", runs)]
        lists_stay = "apt-get update" in runs and "rm -rf /var/lib/apt/lists/*" not in runs
        faults += [f"{name}: apt's lists stay"] if lists_stay else []
        caches = re.search(r"pip (install|wheel)", runs)
        kept = "PIP_NO_CACHE_DIR=1" not in " ".join(whole(stages, name).all("ENV"))
        faults += [f"{name}: pip's cache stays"] if caches and kept else []
    for name, ours in (("server", {"ldconfig", "COPY", "ENTRYPOINT"}), ("pipeline", {"COPY"}), ("cpu", {"NVIDIA"})):
        other = {"cpu": "gpu"}.get(name, f"{name}-gpu")
        if name in stages and other in stages:
            one, two = ([p for p in stages[n].lines if not any(o in " ".join(p) for o in ours)] for n in (name, other))
            faults += [] if one == two else [f"{name} and {other} differ"]
    return faults


@pytest.fixture(scope="module")
def faults_of(brought_in, understood):
    def find(text, ignore=IGNORE):
        stages = parse(text)
        return [
            *context_faults(stages, ignore),
            *package_faults(stages, brought_in),
            *runtime_faults(stages, understood),
            *tidiness_faults(stages),
        ]

    return find


def test_the_dockerfile_has_no_fault(faults_of):
    assert faults_of(TEXT) == []


BROKEN = [
    ("FROM cpu AS server\n", "FROM cpu AS serving\n", "no target server"),
    ("COPY verify ./verify\n", "", "wheel: verify is not copied"),
    ("COPY data ./data", "COPY dataset ./dataset", "wheel: dataset does not exist"),
    ("COPY data ./data", "COPY data tests ./data", "wheel: .dockerignore stops tests"),
    ("COPY pyproject.toml constraints.txt ./", "COPY pyproject.toml serve ./", "serve comes before the packages"),
    ("touch README.md LICENSE", "touch README.md", "the file LICENSE is not made"),
    ("COPY --from=server-packages", "COPY --from=packages", "server: no stage packages"),
    ("COPY data ./data", "ADD data ./data", "wheel: ADD"),
    ("'.[cpu]'", "'.[cpu,train]'", "server: torch in a server"),
    ("'.[gpu]'", "'.[gpu,train]'", "server-gpu: torch in a server"),
    ("'.[gpu]'", "'.[gpu,cpu]'", "server-gpu: 2 onnxruntimes"),
    ("'.[gpu]'", "'.[report]'", "server-gpu: 0 onnxruntimes"),
    ("'.[gpu]'", "'.[cuda]'", "pip knows no cuda"),
    (" torch torchvision ", " torch torchaudio ", "pip knows no torchaudio"),
    ("'.[cpu,train,report]'", "'.[cpu,report]'", "pipeline-gpu: no torch"),
    ("--no-index /wheel/*.whl", "--no-index numpy", "server: bigstep is not installed"),
    ("USER 10001:10001", "USER 0:0", "USER is not a number above 0"),
    ("USER 10001:10001", "USER bigstep", "USER is not a number above 0"),
    ("HOME=/tmp ", "", "server: HOME=/tmp"),
    ('image.title="', 'image.name="', "no label title"),
    ('version="0.1.0"', 'version="0.0.9"', "another version"),
    ("Apache-2.0", "MIT", "another licence"),
    ("STOPSIGNAL SIGINT", "STOPSIGNAL SIGTERM", "pipeline: is not stopped by SIGINT"),
    ('"--port", "8000"]', '"--porto", "8000"]', "does not understand it"),
    ('CMD ["/bundle"]', "CMD /bundle", "not in exec form"),
    ('["bigstep", "serve",', '["bigstep", "run",', "does not understand it"),
    ('CMD ["run", "digits"]', 'CMD ["train", "digits"]', "pipeline: does not run"),
    (', "--device", "cuda"]', "]", "serves on another device than cuda"),
    ("EXPOSE 8000", "EXPOSE 8080", "EXPOSE is another port"),
    ("8000/health/ready", "8001/health/ready", "HEALTHCHECK asks another address"),
    ('CMD ["python3", "-c",', 'CMD python3 -c ["', "HEALTHCHECK is not in exec form"),
    ("ARG TORCH_INDEX\n", "ARG TORCH_INDEX\nARG INDEX_TOKEN\n", "INDEX_TOKEN"),
    ("      && rm -rf /var/lib/apt/lists/* &&", "      &&", "apt's lists stay"),
    ("--no-install-recommends python3-venv", "--no-install-recommends gcc", "gcc"),
    (" PIP_NO_CACHE_DIR=1", "", "pip's cache stays"),
    ("FROM gpu AS server-gpu\n", "FROM gpu AS server-gpu\nWORKDIR /srv\n", "server and server-gpu differ"),
    ("FROM ${GPU_IMAGE} AS gpu\n", "FROM ${GPU_IMAGE} AS gpu\nENV LANG=C\n", "cpu and gpu differ"),
]


@pytest.mark.parametrize(("old", "new", "fault"), BROKEN, ids=[f"{new.strip() or old}" for old, new, _ in BROKEN])
def test_every_check_finds_its_fault(faults_of, old, new, fault):
    assert old in TEXT
    found = faults_of(TEXT.replace(old, new))
    assert any(fault in one for one in found), found


def test_a_file_that_dockerignore_stops_is_found(faults_of):
    assert "wheel: .dockerignore stops serve" in faults_of(TEXT, IGNORE.replace("!serve\n", ""))


def test_release_takes_the_server_it_is_asked_for():
    cpu, gpu = parse(TEXT), parse(TEXT.replace("ARG SERVER=server\n", "ARG SERVER=server-gpu\n"))
    assert cpu["release"].base == "server"
    assert "cuda" in last(whole(gpu, "release"), "ENTRYPOINT")
    assert "cuda" not in last(whole(cpu, "release"), "ENTRYPOINT")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_health_check_tells_ready_from_not_ready(status, code):
    """The very command of the image, against a server that answers, one that is not ready, and none."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    port = server.server_address[1]
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.handle_request, daemon=True).start()
    check = last(parse(TEXT)["server"], "HEALTHCHECK").partition("CMD ")[2]
    program, *arguments = json.loads(check.replace("8000", str(port)))
    done = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=10)
    server.server_close()
    assert program == "python3"
    assert done.returncode == code, done.stderr.decode()


def test_release_image_refuses_a_bundle_that_is_not_one(tmp_path):
    """The very check of the `release` target; an empty folder is what a build without --build-context has."""
    program, *arguments = shlex.split(last(parse(TEXT)["release"], "RUN").replace("/bundle", str(tmp_path)))
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert program == "python3"
    assert done.returncode == 1
    assert "RecordError" in done.stderr and str(tmp_path) in done.stderr


TEXTS = [page for page in sorted((ROOT / "docs").rglob("*.*")) if page.suffix != ".png"]
PAGES = [ROOT / "README.md", ROOT / "Dockerfile", ROOT / "Makefile", *TEXTS]


def test_documented_builds_name_targets_that_exist():
    named = {(p.name, t) for p in PAGES for t in re.findall(r"--target[ =]([\w-]+)", p.read_text()) if t != "X"}
    assert {target for _, target in named} >= {"server", "release"}
    assert {target for _, target in named} <= set(FINAL), named
