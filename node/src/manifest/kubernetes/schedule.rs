//! The schedules of a CronJob, in the dialect of Kubernetes, as shoal has them.

/// The schedule in the five fields that shoal reads, and a word where it means less.
///
/// # Errors
/// Kubernetes would not take it, or shoal cannot; with the mend.
pub(super) fn schedule(text: &str) -> Result<(String, Option<String>), String> {
    let text = text.trim();
    if let Some(every) = text.strip_prefix("@every ") {
        let plain = every_of(every.trim()).ok_or_else(|| {
            format!(
                "`{text}` does not divide an hour or a day: write five fields, as in `*/5 * * * *`"
            )
        })?;
        let note = format!("counted from the clock, and not from a start: `{plain}`");
        return Ok((plain, Some(note)));
    }
    if text.starts_with('@') {
        return match text.chars().any(char::is_uppercase) {
            true => Err(format!("`{text}`: Kubernetes knows it in small letters alone")),
            false => Ok((text.to_owned(), None)),
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!(
            "`{text}` has {} fields: five are expected, as in `*/5 * * * *`",
            fields.len()
        ));
    }
    let most = ["59", "23", "31", "12", "6"];
    let fields: Result<Vec<String>, String> =
        fields.iter().zip(most).map(|(field, most)| of_field(field, most)).collect();
    Ok((fields?.join(" "), None))
}

fn of_field(field: &str, most: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let range = match range {
            "?" => "*".to_owned(),
            // What stands behind the star does not count for Kubernetes.
            star if star.starts_with("*-") || star.starts_with("?-") => "*".to_owned(),
            range => range.replace('+', ""),
        };
        let is_star = range == "*" && step.is_none_or(|step| step == "1");
        if is_star {
            return Ok("*".to_owned());
        }
        if most == "6" && range.split('-').any(|it| it == "7") {
            return Err(format!("`{field}`: Sunday is 0 for Kubernetes, and 7 is no day"));
        }
        if ["L", "W", "#"].iter().any(|it| {
            part.trim_end_matches(char::is_alphabetic) != part
                && part.ends_with(it)
                && part.starts_with(|c: char| c.is_ascii_digit())
        }) || part == "L"
            || part.contains('#')
        {
            return Err(format!("`{field}`: Kubernetes knows no `L`, `W` and `#`"));
        }
        parts.push(match step {
            // From a number on, in steps.
            Some(step) if range != "*" && !range.contains('-') => format!("{range}-{most}/{step}"),
            Some(step) => format!("{range}/{step}"),
            None => range,
        });
    }
    Ok(parts.join(","))
}

/// A duration that divides an hour or a day, in five fields.
fn every_of(text: &str) -> Option<String> {
    let time = crate::publish::probe::duration(text).ok().filter(|_| !text.contains('d'))?;
    let seconds = time.as_secs();
    if time.subsec_nanos() != 0 || seconds == 0 || seconds % 60 != 0 {
        return None;
    }
    let minutes = seconds / 60;
    match minutes {
        1 => Some("* * * * *".into()),
        2..60 if 60 % minutes == 0 => Some(format!("*/{minutes} * * * *")),
        60 => Some("0 * * * *".into()),
        1440 => Some("0 0 * * *".into()),
        _ if minutes % 60 == 0 && minutes < 1440 && 1440 % minutes == 0 => {
            Some(format!("0 */{} * * *", minutes / 60))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_of_kubernetes_is_rewritten() {
        for (theirs, ours) in [
            ("0 0 */1 * MON", "0 0 * * MON"),
            ("0 0 *,15 * MON", "0 0 * * MON"),
            ("? ? ? ? ?", "* * * * *"),
            ("5/15 1/2 * * *", "5-59/15 1-23/2 * * *"),
            ("+5 *-5 * * *", "5 * * * *"),
            ("0 0 */2 * MON", "0 0 */2 * MON"),
            ("13 0 1-5 * 5", "13 0 1-5 * 5"),
            ("@midnight", "@midnight"),
            ("@every 1h", "0 * * * *"),
            ("@every 15m", "*/15 * * * *"),
            ("@every 1h30m", ""),
            ("@every 6h", "0 */6 * * *"),
            ("@every 90s", ""),
            ("@every 1d", ""),
            ("@Hourly", ""),
            ("0 0 * * 7", ""),
            ("0 0 * * 0-7", ""),
            ("0 0 0 * * *", ""),
            ("0 0 L * *", ""),
            ("0 0 * * 5#2", ""),
            ("0 0 15W * *", ""),
        ] {
            let read = schedule(theirs).map(|it| it.0).unwrap_or_default();
            assert_eq!(read, ours, "{theirs}");
        }
    }
}
