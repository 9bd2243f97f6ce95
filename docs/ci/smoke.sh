#!/usr/bin/env bash
# Start a server image as it will run, wait until it is ready, ask it once, stop it:  smoke.sh IMAGE EXAMPLE [FLAG...]
#
# IMAGE    a `server` image with a bundle mounted by FLAGs of docker run, or a `release` image
# EXAMPLE  a PNG, like runs/NAME/example.png
#
# SMOKE_HOST, SMOKE_PORT  where the published port is reached (127.0.0.1, 8000)      READY_S  seconds to wait (60)
set -euo pipefail

image=$1 example=$2
shift 2
port=${SMOKE_PORT:-8000}
url=http://${SMOKE_HOST:-127.0.0.1}:$port
ready_s=${READY_S:-60}

fail() {
  echo "smoke test: $1" >&2
  exit 1
}

state() {
  docker inspect --format "{{.State.$1}}" "$container"
}

container=$(docker run --detach --read-only --tmpfs /tmp --publish "$port:8000" "$@" "$image")
trap 'docker logs "$container" >&2; docker rm --force "$container" > /dev/null' EXIT

until curl --noproxy '*' --silent --fail --max-time 5 --output /dev/null "$url/health/ready"; do
  [ "$(state Running)" = true ] || fail "the server ended with exit code $(state ExitCode) before it was ready"
  [ "$SECONDS" -lt "$ready_s" ] || fail "not ready after $ready_s s"
  sleep 0.5
done

curl --noproxy '*' --silent --show-error --fail-with-body --max-time 35 \
  --header 'Content-Type: image/png' --data-binary "@$example" "$url/predict" || fail "it did not answer $example"
echo

docker stop -t 35 "$container" > /dev/null
[ "$(state ExitCode)" = 0 ] || fail "the server ended with exit code $(state ExitCode) after SIGTERM"
