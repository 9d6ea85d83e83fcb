#!/usr/bin/env bash
# uhashring 2.3: the weights of a consistent-hash ring are no ratios. Giving every node weight 2
# instead of 1 moves 44 % of the keys in the default ring, and none in its ketama ring.
#
# Expected: only the ratio of weights counts, so that doubling all of them moves no key, as in
# ketama.
# Seen: in the default ring a weight multiplies a node's points, so every point of every node is
# another one.
# It matters to programs that use capacities (GiB, cores) as weights and change their unit.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install uhashring==2.3
"$folder/bin/python" - <<'P'
from uhashring import HashRing

nodes = [f"n{number}" for number in range(10)]
keys = [f"k{number}" for number in range(20_000)]


def moved(**how):
    one = HashRing({node: 1 for node in nodes}, **how)
    two = HashRing({node: 2 for node in nodes}, **how)
    return sum(one.get_node(key) != two.get_node(key) for key in keys) / len(keys)


default, ketama = moved(), moved(hash_fn="ketama")
print(f"keys that move when every weight is doubled: default {default:.3f}, ketama {ketama:.3f}")
assert 0.40 < default < 0.48, default
assert ketama == 0, ketama
P
