//! The differences from Compose that are meant, each with its reason.

/// Fields by their paths: `*` is one part or the rest of one, a last `**` all that is below.
const FIELDS: [(&str, &str); 3] = [
    ("services.*.build.**", "nodes build nothing, so only the folder is read, for the advice"),
    ("services.*.develop.**", "nodes watch no sources, so it is passed over"),
    ("services.*.x-*.**", "Compose leaves extensions of services out of its JSON alone"),
];

/// Cases of which all differences are meant, by the end of their names.
const CASES: [(&str, &str); 1] =
    [("drive.yaml", "a volume of one letter; Compose takes it for a drive of Windows")];

/// Files that Compose alone refuses, by a part of its complaint.
const ACCEPTED: [(&str, &str); 3] = [
    ("does not match pattern '[a-zA-Z0-9][a-zA-Z0-9_.-]+'", "names of containers do not count"),
    ("version must be a string", "it has no meaning, and old files have it as a number"),
    ("non-string key", "every name is a text here"),
];

/// Files that shoal alone refuses, by a part of its complaint.
const REFUSED: [(&str, &str); 0] = [];

/// The reason why a field differs, if it is meant.
pub(super) fn field(case: &str, path: &[String]) -> Option<&'static str> {
    if let Some((_, why)) = CASES.iter().find(|(name, _)| case.ends_with(name)) {
        return Some(why);
    }
    let fits = |pattern: &str| {
        let mut parts = path.iter();
        for part in pattern.split('.') {
            match (part, parts.next()) {
                ("**", _) => return true,
                (part, Some(own)) => match part.strip_suffix('*') {
                    Some(start) if own.starts_with(start) => {}
                    None if part == own => {}
                    _ => return false,
                },
                (_, None) => return false,
            }
        }
        parts.next().is_none()
    };
    FIELDS.iter().find(|(pattern, _)| fits(pattern)).map(|(_, why)| *why)
}

/// The reason why Compose alone refuses a file, if it is known.
pub(super) fn accepted(complaint: &str) -> Option<&'static str> {
    ACCEPTED.iter().find(|(part, _)| complaint.contains(part)).map(|(_, why)| *why)
}

/// The reason why shoal alone refuses a file, if it is known.
pub(super) fn refused(complaint: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(part, _)| complaint.contains(part)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_one_part_or_all_below() {
        let of = |path: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            field("a.yaml", &path)
        };
        assert!(of("services.a.build.args.X").is_some() && of("services.a.build.x").is_some());
        assert_eq!((of("services.a.image"), of("volumes.a.build.x")), (None, None));
    }
}
