#!/bin/sh
# Builds the example images, FROM scratch around one static program each, and saves each as a file
# that shoal publishes: server.tar, client.tar, sensor.tar, beside this script.
# Needs rustup, and Docker or Podman; ENGINE names the command, as in ENGINE='sudo podman'.
set -eu
cd "$(dirname "$0")"
target="$(uname -m)-unknown-linux-musl"
rustup target add "$target"
if [ -z "${ENGINE:-}" ]; then
    if docker info > /dev/null 2>&1; then ENGINE=docker; else ENGINE=podman; fi
fi
for name in server client sensor; do
    rustc --edition 2024 -O -C panic=abort -C strip=symbols --target "$target" \
        -o "$name/$name" "$name/main.rs"
    # ENGINE may be several words.
    $ENGINE build --tag "localhost/shoal-example-$name:1" "$name"
    rm -f "$name.tar"
    $ENGINE save --output "$name.tar" "localhost/shoal-example-$name:1"
done
ls -l ./*.tar
