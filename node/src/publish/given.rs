//! Secrets and configs of a workload, as people give them in a manifest or to `shoal run`.

use shoal_protocol::model::Label;
use shoal_protocol::model::spec::{SECRETS, Target, ValueKind, ValueUse};

/// Permissions of a secret's file: its owner alone.
const SECRET_MODE: u32 = 0o400;
/// Permissions of a config's file.
const CONFIG_MODE: u32 = 0o444;

/// Reads `NAME[:target=PATH][,env=VARIABLE][,mode=0400][,uid=N][,gid=N]`, or docker's long form
/// `source=NAME,target=PATH,mode=0400`.
///
/// # Errors
/// A part is not understood, or two contradict one another.
pub fn secret(text: &str) -> Result<ValueUse, String> {
    value(ValueKind::Secret, text)
}

/// The same for a config; its file can be read by everybody in the container.
///
/// # Errors
/// As those of [`secret`].
pub fn config(text: &str) -> Result<ValueUse, String> {
    value(ValueKind::Config, text)
}

fn value(kind: ValueKind, text: &str) -> Result<ValueUse, String> {
    let word = kind.word();
    let (name, options) = match text.split_once(':') {
        Some((name, options)) if !name.contains(['=', ',']) => (Some(name), options),
        _ if text.contains('=') => (None, text),
        _ => (Some(text), ""),
    };
    let wrong = |why: String| format!("`{text}`: {why}");
    let mut given = Options { source: name.map(str::to_owned), ..Options::default() };
    // Docker's short form of a config, and of a volume: NAME:/PATH.
    if options.starts_with('/') && !options.contains('=') {
        given.target = Some(options.to_owned());
    } else {
        for option in options.split(',').filter(|it| !it.is_empty()) {
            given.read(option).map_err(wrong)?;
        }
    }
    let name = given.source.ok_or_else(|| wrong(format!("the {word}'s name is missing")))?;
    if name.contains('/') {
        return Err(wrong(format!(
            "a workload gets {word}s of its own namespace: give the name alone"
        )));
    }
    let name: Label = name.parse().map_err(|error| wrong(format!("{error}")))?;
    let owned = given.mode.is_some() || given.uid.is_some() || given.gid.is_some();
    let to = match (given.env, given.target) {
        (Some(_), Some(_)) => {
            let why = format!("it has `env` and `target`: give the {word} twice for both");
            return Err(wrong(why));
        }
        (Some(_), None) if owned => {
            return Err(wrong("mode, uid and gid are of a file, and `env` is a variable".into()));
        }
        (Some(variable), None) => Target::Env(variable),
        (None, target) => Target::File {
            path: target.map_or_else(
                || match kind {
                    ValueKind::Secret => format!("{SECRETS}/{name}"),
                    // As docker has it.
                    ValueKind::Config => format!("/{name}"),
                },
                |target| match target.starts_with('/') {
                    true => target,
                    false if kind == ValueKind::Secret => format!("{SECRETS}/{target}"),
                    false => format!("/{target}"),
                },
            ),
            mode: given.mode.unwrap_or(match kind {
                ValueKind::Secret => SECRET_MODE,
                ValueKind::Config => CONFIG_MODE,
            }),
            uid: given.uid,
            gid: given.gid,
        },
    };
    Ok(ValueUse { kind, name, to })
}

#[derive(Default)]
struct Options {
    source: Option<String>,
    target: Option<String>,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Options {
    fn read(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("`{option}` is not of the form KEY=VALUE"))?;
        let number = || {
            let number = value.parse::<u32>();
            number.map_err(|_| format!("{key}: `{value}` is no number of a user or group"))
        };
        let twice = match key {
            "source" | "src" | "name" => self.source.replace(value.to_owned()).is_some(),
            "target" | "dst" | "destination" => self.target.replace(value.to_owned()).is_some(),
            "env" => self.env.replace(value.to_owned()).is_some(),
            "mode" => self.mode.replace(mode(value)?).is_some(),
            "uid" => self.uid.replace(number()?).is_some(),
            "gid" => self.gid.replace(number()?).is_some(),
            _ => {
                return Err(format!(
                    "`{key}` is not known: source, target, env, mode, uid or gid are"
                ));
            }
        };
        if twice { Err(format!("`{key}` is given twice")) } else { Ok(()) }
    }
}

/// Permissions in octal digits, with `0` or `0o` before them or not.
fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| (1..=0o777).contains(mode));
    mode.ok_or_else(|| format!("mode: `{text}` is none: octal digits are expected, as in 0440"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mode: u32) -> Target {
        Target::File { path: path.into(), mode, uid: None, gid: None }
    }

    /// The forms of docker, and the short ones.
    #[test]
    fn forms_of_a_secret_are_read() {
        let read = |text: &str| secret(text).map(|it| (it.name.to_string(), it.to)).unwrap();
        let db = |to: Target| ("db".to_owned(), to);
        assert_eq!(read("db"), db(file("/run/secrets/db", 0o400)));
        assert_eq!(read("db:target=/etc/db.pw"), db(file("/etc/db.pw", 0o400)));
        assert_eq!(read("db:/etc/db.pw"), db(file("/etc/db.pw", 0o400)));
        assert_eq!(read("db:env=DB_PASSWORD"), db(Target::Env("DB_PASSWORD".into())));
        assert_eq!(
            read("source=db,target=pw,mode=0440,uid=70,gid=71"),
            db(Target::File {
                path: "/run/secrets/pw".into(),
                mode: 0o440,
                uid: Some(70),
                gid: Some(71)
            })
        );
        assert_eq!(config("site:/etc/site.conf").unwrap().to, file("/etc/site.conf", 0o444));
        assert_eq!(config("site").unwrap().to, file("/site", 0o444));
    }

    #[test]
    fn wrong_forms_say_what_is_wrong() {
        for (text, part) in [
            ("", "DNS label"),
            ("target=/x", "name is missing"),
            ("other/db", "own namespace"),
            ("db:env=A,target=/x", "twice for both"),
            ("db:env=A,mode=0400", "of a file"),
            ("db:mode=999", "octal"),
            ("db:mode=0", "octal"),
            ("db:colour=red", "not known"),
            ("db:target=/a,target=/b", "given twice"),
            ("db:uid=root", "no number"),
            ("db:x", "KEY=VALUE"),
        ] {
            let error = secret(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
