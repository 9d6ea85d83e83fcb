#!/usr/bin/env bash
# croniter 6.0.0, asked for one run after the other across the night in which the clock goes back:
# a daily job runs an hour late on the next day, and a job of every ten minutes pauses for an hour.
#
# Expected: the daily job keeps its wall time, as on every other day; the doubled hour is served
# twice or once.
# Seen: 14:30 becomes 15:30 on the day of the change and is 14:30 again after it; no run between
# 00:50 and 02:00 UTC. A daemon that asks anew after each run gets the late run, too, because it
# asks from the last run.
# It matters to a scheduler that takes its next run from a cron library, and to files that move
# from one library to another.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install croniter==6.0.0 tzdata==2026.6
"$folder/bin/python" - <<'P'
from datetime import datetime, timezone
from zoneinfo import ZoneInfo
from croniter import croniter

berlin = ZoneInfo("Europe/Berlin")  # the clock goes back on 2026-10-25 at 03:00


def runs(line, since, many):
    cron = croniter(line, since)
    return [cron.get_next(datetime) for _ in range(many)]


noon_before = datetime(2026, 10, 24, 12, 0, tzinfo=berlin)
daily = [run.isoformat() for run in runs("30 14 * * *", noon_before, 3)]
print("30 14 * * *:", *daily)
assert daily == [
    "2026-10-24T14:30:00+02:00",
    "2026-10-25T15:30:00+01:00",
    "2026-10-26T14:30:00+01:00",
], daily

often = [
    run.astimezone(timezone.utc).strftime("%H:%M")
    for run in runs("*/10 * * * *", datetime(2026, 10, 25, 2, 30, tzinfo=berlin), 5)
]
print("*/10 * * * *, in UTC:", *often)
assert often == ["00:40", "00:50", "02:00", "02:10", "02:20"], often
P
