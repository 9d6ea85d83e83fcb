#!/usr/bin/env bash
# The Kubernetes client for Python 34.1.0: parse_quantity reads quantities that Kubernetes refuses,
# and does not read some that Kubernetes accepts.
#
# Expected: the client's own helper reads the quantities that the server accepts, and no others.
# Seen: 200K (a capital k), 1_000 and 1e3Mi are read as numbers; kubectl 1.37 refuses them in a
# manifest. A quantity with spaces around it, which kubectl accepts, is an error. 9Ei, which
# Kubernetes clamps to 8Ei, is read as 9Ei.
# It matters to checks of files before they are sent: they pass files that the server then refuses.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install kubernetes==34.1.0
"$folder/bin/python" - <<'P'
from decimal import Decimal
from kubernetes.utils import parse_quantity

read = {"200K": 200_000, "1_000": 1_000, "1e3Mi": 1_000 * 2**20, "9Ei": 9 * 2**60}
for text, number in read.items():
    print(f"{text} -> {parse_quantity(text)}")
    assert parse_quantity(text) == Decimal(number), text
try:
    value = parse_quantity(" 1Gi ")
except ValueError as error:
    print(error)
else:
    raise AssertionError(value)
P
