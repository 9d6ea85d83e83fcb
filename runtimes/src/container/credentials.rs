//! Credentials of registries, from the files that `docker login` and `podman login` write. They are
//! read at each pull, so a later login counts at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

/// Bytes of a file with credentials.
const MAX_FILE: u64 = 1 << 20;

/// The form of docker's `config.json` and of podman's `auth.json`, as far as it matters here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    /// `USER:PASSWORD` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials of a registry, in the form that engines take.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Login {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serveraddress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identitytoken: Option<String>,
}

impl Login {
    /// The value of `X-Registry-Auth`. The engines read the URL's alphabet, which differs for
    /// passwords with `~`, `?` or `>`.
    pub fn header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// A password does not belong into a log.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?} at {:?})", self.username, self.serveraddress)
    }
}

/// The files that may have credentials, in the order in which they count.
pub(super) fn files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let folder = |name: &str| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let home = folder("HOME").unwrap_or_else(|| "/root".into());
    let user = rustix::process::getuid().as_raw();
    let docker = folder("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"));
    let runtime = folder("XDG_RUNTIME_DIR").map(|it| it.join("containers/auth.json"));
    let mut files: Vec<PathBuf> = folder("REGISTRY_AUTH_FILE").into_iter().collect();
    files.push(docker.join("config.json"));
    files.extend(runtime);
    files.push(format!("/run/containers/{user}/auth.json").into());
    files.push(home.join(".config/containers/auth.json"));
    files
}

/// The credentials for an image, from the first of `files` that has some.
///
/// # Errors
/// A file cannot be used, or leaves the credentials to a helper program.
pub(super) fn find(files: &[PathBuf], reference: &str) -> Result<Option<Login>, String> {
    let Some((host, path)) = host_and_path(reference) else { return Ok(None) };
    for file in files {
        let Some(read) = read(file)? else { continue };
        if let Some(found) = of_file(file, read, &host, &path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<File>, String> {
    let wrong = |why: String| {
        format!("the registries' credentials in {} cannot be read: {why}", path.display())
    };
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE => return Err(wrong("it is far too large".into())),
        Ok(_) => {}
        // A file that this user may not even look at belongs to another one.
        Err(_) => return Ok(None),
    }
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| wrong(error.to_string()))
}

fn of_file(path: &Path, file: File, host: &str, name: &str) -> Result<Option<Login>, String> {
    let full = format!("{host}/{name}");
    let fits = |key: &str| {
        let key = normal(key);
        (key == host || full == key || full.starts_with(&format!("{key}/"))).then_some(key.len())
    };
    let helper_of = |helper: &str| {
        format!(
            "{} leaves the credentials of {host} to the program docker-credential-{helper}, which \
             shoal does not run: log in to {host} without a helper, into this file or the one that \
             REGISTRY_AUTH_FILE names for the daemon",
            path.display()
        )
    };
    if let Some((_, helper)) = file.helpers.iter().find(|(key, _)| fits(key).is_some()) {
        return Err(helper_of(helper));
    }
    // The closest entry counts, as in `registry.local/team` before `registry.local`.
    let best = file.auths.into_iter().filter_map(|(key, auth)| Some((fits(&key)?, key, auth)));
    let Some((_, key, auth)) = best.max_by_key(|(length, ..)| *length) else { return Ok(None) };
    let (username, password) = match (&auth.auth, auth.username, auth.password) {
        (Some(text), ..) if !text.is_empty() => {
            let bytes = STANDARD.decode(text.trim()).unwrap_or_default();
            let text = String::from_utf8(bytes).unwrap_or_default();
            // Docker ends some passwords with zero bytes.
            let text = text.trim_matches('\0');
            let Some((user, password)) = text.split_once(':') else {
                let file = path.display();
                return Err(format!("{file}: the credentials of {key} are not of docker's form"));
            };
            (Some(user.to_owned()), Some(password.to_owned()))
        }
        (_, Some(user), Some(password)) => (Some(user), Some(password)),
        _ if auth.identitytoken.is_some() => (None, None),
        _ => return file.store.map_or(Ok(None), |store| Err(helper_of(&store))),
    };
    Ok(Some(Login {
        username,
        password,
        serveraddress: Some(host.to_owned()),
        identitytoken: auth.identitytoken,
    }))
}

/// A key of `auths` as a host, and a path behind it if it has one: docker writes some with a scheme
/// and the version of the API.
fn normal(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or(key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

fn host_and_path(reference: &str) -> Option<(String, String)> {
    let full = crate::images::full_name(reference)?;
    let (host, path) = full.split_once('/')?;
    let path = path.split('@').next().unwrap_or(path);
    Some((host.to_owned(), super::create::untagged(path).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str, reference: &str) -> Result<Option<Login>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        find(&["/nowhere/config.json".into(), file], reference)
    }

    /// `docker login` writes docker.io as a URL, and podman a path within a registry.
    #[test]
    fn logins_of_docker_and_podman_are_found() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "am9lOnB3OjE="},
            "registry.local:5000": {"auth": "YW5uOmE="},
            "registry.local:5000/team": {"auth": "dGVhbTp0"}}}"#;
        let user = |reference: &str| find_in(text, reference).unwrap().map(|it| it.username);
        assert_eq!(user("redis:7"), Some(Some("joe".into())));
        assert_eq!(user("registry.local:5000/shop/till:3"), Some(Some("ann".into())));
        assert_eq!(user("registry.local:5000/team/till"), Some(Some("team".into())));
        assert_eq!(user("registry.local/team/till"), None);
        let joe = find_in(text, "redis").unwrap().unwrap();
        assert_eq!(joe.password.as_deref(), Some("pw:1"), "only the first colon divides");
    }

    /// A typed client sends the other alphabet, and Docker then pulls without a login.
    #[test]
    fn header_has_the_alphabet_of_urls() {
        let login = Login {
            username: Some("joe".into()),
            password: Some("a?b>c~~~???>>>".into()),
            serveraddress: Some("registry.local".into()),
            identitytoken: None,
        };
        let header = login.header();
        assert!(!header.contains(['+', '/']), "{header}");
        let back: serde_json::Value =
            serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(back["password"], "a?b>c~~~???>>>");
    }

    #[test]
    fn credential_helpers_are_refused_by_name() {
        let text = r#"{"credHelpers": {"registry.local": "pass"}, "credsStore": "secretservice",
            "auths": {"docker.io": {}}}"#;
        let error = find_in(text, "registry.local/till").unwrap_err();
        assert!(error.contains("docker-credential-pass"), "{error}");
        let error = find_in(text, "redis").unwrap_err();
        assert!(error.contains("docker-credential-secretservice"), "{error}");
        assert!(find_in(text, "other.local/till").unwrap().is_none(), "no login, no helper");
    }

    #[test]
    fn damaged_file_is_an_error_and_an_absent_one_is_none() {
        assert!(find_in("{", "redis").unwrap_err().contains("cannot be read"));
        assert!(find_in("", "redis").unwrap().is_none());
        assert!(find(&["/nowhere/config.json".into()], "redis").unwrap().is_none());
        let error = find_in(r#"{"auths": {"docker.io": {"auth": "?"}}}"#, "redis").unwrap_err();
        assert!(error.contains("not of docker's form"), "{error}");
    }
}
