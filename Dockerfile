# syntax=docker/dockerfile:1
#
# docker build --target server       -t bigstep-server .         serves a mounted bundle; no torch inside
# docker build --target server-gpu   -t bigstep-server-gpu .     the same with CUDA
# docker build --target release      -t digits --build-context bundle=runs/digits/bundle .
#                                                                a server with its bundle inside
# docker build --target pipeline     -t bigstep-pipeline .       trains, compresses, exports, verifies
# docker build --target pipeline-gpu -t bigstep-pipeline-gpu .   the same, training on a GPU
#
# --platform linux/arm64 builds for 64-bit ARM. How to run each of them: docs/ci.md.

# Python 3.11 or newer, in every image.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# A plain Python image will do on a GPU too: pip brings CUDA and cuDNN, and the NVIDIA container toolkit brings the
# driver. Jetson: JetPack 7 (L4T 38) runs the same wheels for 64-bit ARM; give its L4T image if you need more of it
# (it has Python 3.12). JetPack 6 (L4T 36) has Python 3.10 and CUDA 12: name an image of your own with Python 3.11 or
# newer, and with EXTRA_INDEX an index that has onnxruntime-gpu, or torch, for both.
ARG GPU_IMAGE=python:3.11-slim-bookworm

# An index beside PyPI, for the GPU images.
ARG EXTRA_INDEX=https://pypi.org/simple

# PyTorch without CUDA, for `pipeline`.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# What `release` starts from: server or server-gpu.
ARG SERVER=server


# Our code, as a wheel: the one stage that an edit of it builds again from the start.
FROM ${PYTHON_IMAGE} AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bigstep ./bigstep
COPY data ./data
COPY train ./train
COPY compress ./compress
COPY export ./export
COPY serve ./serve
COPY verify ./verify
COPY pipeline ./pipeline
RUN pip wheel --no-deps --wheel-dir /wheel .


# Packages of others, by the extras of pyproject.toml. pip wants every file named there to exist; empty ones keep these
# layers until pyproject.toml or constraints.txt change.
FROM ${PYTHON_IMAGE} AS cpu-packages
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE

FROM cpu-packages AS server-packages
RUN pip install -c constraints.txt '.[cpu]' \
 && pip uninstall --yes bigstep

FROM cpu-packages AS pipeline-packages
ARG TORCH_INDEX
RUN pip install -c constraints.txt --extra-index-url ${TORCH_INDEX} torch torchvision \
 && pip install -c constraints.txt '.[cpu,train,report]' \
 && pip uninstall --yes bigstep

# Ubuntu's Python, in the L4T images, comes without venv.
FROM ${GPU_IMAGE} AS gpu-packages
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv \
 || { apt-get update && apt-get install --yes --no-install-recommends python3-venv \
      && rm -rf /var/lib/apt/lists/* && python3 -m venv --clear /opt/venv; }
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE

FROM gpu-packages AS server-gpu-packages
ARG EXTRA_INDEX
RUN pip install -c constraints.txt --extra-index-url ${EXTRA_INDEX} '.[gpu]' \
 && pip uninstall --yes bigstep

# The GPU trains; the gate judges on the CPU, with the onnxruntime that `pipeline` has, so that both say the same. It
# also must not share an environment with onnxruntime-gpu: the two overwrite each other's files.
FROM gpu-packages AS pipeline-gpu-packages
ARG EXTRA_INDEX
RUN pip install -c constraints.txt --extra-index-url ${EXTRA_INDEX} '.[cpu,train,report]' \
 && pip uninstall --yes bigstep


# What every image has. Nothing is written outside /tmp and what is mounted, and any user id will do: HOME takes the
# caches of matplotlib and fontconfig, and USER a name that PyTorch asks for, which an unknown id does not have.
FROM ${PYTHON_IMAGE} AS cpu
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=bigstep \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ORT_DISABLE_TELEMETRY=1
LABEL org.opencontainers.image.title="bigstep" \
      org.opencontainers.image.description="Image classifiers trained with large steps, made small, proven and served" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"

FROM ${GPU_IMAGE} AS gpu
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=bigstep \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ORT_DISABLE_TELEMETRY=1
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.title="bigstep" \
      org.opencontainers.image.description="Image classifiers trained with large steps, made small, proven and served" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"


# A mounted runs/ folder takes the records: docker run --user "$(id -u):$(id -g)" -v "$PWD/runs:/runs" ...
# SIGINT, which bigstep answers by stopping so that the same command goes on; a first process ignores SIGTERM.
FROM cpu AS pipeline
COPY --from=pipeline-packages /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps --no-index /wheel/*.whl
RUN mkdir --mode=1777 /runs
WORKDIR /
USER 10001:10001
STOPSIGNAL SIGINT
ENTRYPOINT ["bigstep"]
CMD ["run", "digits"]

FROM gpu AS pipeline-gpu
COPY --from=pipeline-gpu-packages /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps --no-index /wheel/*.whl
RUN mkdir --mode=1777 /runs
WORKDIR /
USER 10001:10001
STOPSIGNAL SIGINT
ENTRYPOINT ["bigstep"]
CMD ["run", "digits"]


# The port is fixed, since the health check asks it; publish it as another with docker run -p. Flags of `bigstep serve`
# follow the bundle. A stop answers what is under way, for as long as one request may take: docker stop -t 35.
FROM cpu AS server
COPY --from=server-packages /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps --no-index /wheel/*.whl
WORKDIR /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python3", "-c", "import urllib.request as r; \
r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["bigstep", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/bundle"]

# ldconfig tells the loader where pip put the libraries of CUDA, whatever the version of Python.
FROM gpu AS server-gpu
COPY --from=server-gpu-packages /opt/venv /opt/venv
RUN find /opt/venv -type d -path '*/nvidia/*/lib' > /etc/ld.so.conf.d/bigstep.conf \
 && ldconfig
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps --no-index /wheel/*.whl
WORKDIR /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python3", "-c", "import urllib.request as r; \
r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["bigstep", "serve", "--host", "0.0.0.0", "--port", "8000", "--device", "cuda"]
CMD ["/bundle"]


# The build fails, as the server would, on a bundle that is altered, unreadable for its user, or did not pass the gate.
# Without --build-context the stage `bundle` is empty, and the build fails as well.
FROM scratch AS bundle

FROM ${SERVER} AS release
COPY --from=bundle / /bundle
RUN python3 -c "from pathlib import Path; from serve.app import open_bundle; open_bundle(Path('/bundle'))"
