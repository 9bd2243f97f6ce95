# syntax=docker/dockerfile:1
# docker build --target server   -t bigstep-server .
# docker build --target pipeline -t bigstep-pipeline .
#
# The server image has no torch. Mount a bundle and it is served, or refused:
#   docker run --rm --read-only --tmpfs /tmp -p 8000:8000 -v "$PWD/runs/digits/bundle:/bundle:ro" bigstep-server
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 bigstep
WORKDIR /opt/bigstep
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bigstep ./bigstep
COPY data ./data
COPY train ./train
COPY compress ./compress
COPY export ./export
COPY serve ./serve
COPY verify ./verify

FROM base AS server
RUN pip install -c constraints.txt '.[cpu]'
USER bigstep
WORKDIR /home/bigstep
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
# The port is fixed, since the health check asks it; publish it as another with docker run -p. Flags may follow the bundle.
ENTRYPOINT ["bigstep", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/bundle"]

FROM base AS pipeline
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install -c constraints.txt --extra-index-url ${TORCH_INDEX} torch torchvision \
 && pip install -c constraints.txt '.[cpu,train,report]'
USER bigstep
WORKDIR /home/bigstep
ENTRYPOINT ["bigstep"]
CMD ["run", "digits"]
