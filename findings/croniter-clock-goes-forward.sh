#!/usr/bin/env bash
# croniter 6.0.0, asked for the next runs of a weekly or monthly job whose last run was before the
# clock went forward: the next run comes an hour early, and then once more at its time.
#
# Expected: the wall time of the line, as in other months. The change of the clock is days away from
# both runs.
# Seen: a job of the 31st at midnight runs on the 30th at 23:00 and on the 31st at 00:00; a job of
# Mondays at midnight runs on Sunday at 23:00 as well. In the time zone of New York the same. A
# daily job on days without a change is right.
# It matters to month-end and weekly jobs, which run twice, once on the wrong day; and to files of
# schedules that move from one scheduler to another.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install croniter==6.0.0 tzdata==2026.6
"$folder/bin/python" - <<'P'
from datetime import datetime
from zoneinfo import ZoneInfo
from croniter import croniter

berlin = ZoneInfo("Europe/Berlin")  # the clock goes forward on 2026-03-29 at 02:00
york = ZoneInfo("America/New_York")  # and there on 2026-03-08


def runs(line, since, many=3):
    cron = croniter(line, since)
    found = [cron.get_next(datetime).strftime("%m-%d %H:%M") for _ in range(many)]
    print(f"{line}, from {since:%m-%d}:", *found, sep="  ")
    return found


monthly = runs("0 0 31 * *", datetime(2026, 3, 1, tzinfo=berlin))
assert monthly == ["03-30 23:00", "03-31 00:00", "05-31 00:00"], monthly
weekly = runs("0 0 * * mon", datetime(2026, 3, 27, tzinfo=berlin))
assert weekly == ["03-29 23:00", "03-30 00:00", "04-06 00:00"], weekly
abroad = runs("30 6 15 * *", datetime(2026, 3, 1, tzinfo=york))
assert abroad == ["03-15 05:30", "03-15 06:30", "04-15 06:30"], abroad
plain = runs("0 0 31 * *", datetime(2026, 7, 1, tzinfo=berlin), 2)
assert plain == ["07-31 00:00", "08-31 00:00"], plain
P
