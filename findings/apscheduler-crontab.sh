#!/usr/bin/env bash
# APScheduler 3.11.1: CronTrigger.from_crontab takes the five fields of a crontab line and gives
# other days than cron. Weekday 0 is Monday, and a line with both a day of the month and a weekday
# runs only on days that match both.
#
# Expected: a function of that name follows crontab(5): 0 and 7 are Sunday, and a day that matches
# one of the two day fields is enough.
# Seen: `0 0 * * 0` runs on Mondays, 7 is refused, `0 0 13 * fri` runs only on Friday the 13th.
# It matters to schedules that move between such a program, Kubernetes and a device's own cron: no
# error reports the difference.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install apscheduler==3.11.1 tzdata==2026.6
"$folder/bin/python" - <<'P'
from datetime import datetime, timezone
from apscheduler.triggers.cron import CronTrigger

since = datetime(2026, 11, 1, tzinfo=timezone.utc)  # a Sunday


def first(line):
    return CronTrigger.from_crontab(line, timezone=timezone.utc).get_next_fire_time(None, since)


sunday = first("0 0 * * 0")
print("0 0 * * 0:", sunday.strftime("%A"), sunday.date())
assert sunday.strftime("%A") == "Monday", sunday
either = first("0 0 13 * fri")
print("0 0 13 * fri:", either.date(), "(the first Friday is 2026-11-06)")
assert str(either.date()) == "2026-11-13", either
try:
    first("0 0 * * 7")
except ValueError as error:
    print("0 0 * * 7:", error)
else:
    raise AssertionError("7 was taken")
P
