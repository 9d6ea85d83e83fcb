#!/usr/bin/env bash
# pycrdt 0.14.13 (Yjs' types in Python): the size of an integer in a shared map decides its type
# when it is read back, and the largest 64-bit integers come back wrong, with no error.
#
# Expected: integers stay integers up to 2^53 and larger ones are refused, or all become floats.
# Seen: an int up to 2^53 is returned as a float; 2^53 + 1 is an int and exact; 2^63 - 1 is a float
# again, off by one.
# It matters to programs that keep counters, serials or nanoseconds in such a document.
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


cases = [
    (3, float, True),
    (2**53, float, True),
    (2**53 + 1, int, True),
    (2**63 - 1, float, False),
]
for value, kind, exact in cases:
    back = there_and_back(value)
    print(f"{value} -> {back!r}")
    assert type(back) is kind, (value, back)
    assert (int(back) == value) is exact, (value, back)
P
