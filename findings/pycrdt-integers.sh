#!/usr/bin/env bash
# pycrdt 0.14.13 (Yjs' types in Python): an integer in a shared map comes back as another type by its size, and the
# largest 64-bit integers come back wrong, with no error.
#
# Guessed: integers stay integers up to 2^53 and what does not fit is refused, or all become floats.
# Seen: up to 2^53 an int is returned as a float; 2^53 + 1 is an int and exact; 2^63 - 1 is a float again, off by one.
# It matters to whoever keeps counters, serials or nanoseconds in such a document.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install pycrdt==0.14.13
"$folder/bin/python" - <<'P'
from pycrdt import Doc, Map


def there_and_back(value):
    here, there = Doc(), Doc()
    here["map"] = numbers = Map({})
    numbers["key"] = value
    there.apply_update(here.get_update())
    return there.get("map", type=Map)["key"]


for value, kind, exact in [(3, float, True), (2**53, float, True), (2**53 + 1, int, True), (2**63 - 1, float, False)]:
    back = there_and_back(value)
    print(f"{value} -> {back!r}")
    assert type(back) is kind, (value, back)
    assert (int(back) == value) is exact, (value, back)
P
