//! References of images, and the choice of one image by its reference.

use std::fmt;

use super::FoundImage;
use super::error::PickError;

/// Bytes of host and path, with the slash between them.
const MAX_NAME: usize = 255;

/// A reference in full: `redis` is `docker.io/library/redis:latest`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    /// `docker.io`, `localhost`, `registry.local:5000`.
    pub host: String,
    /// The person wrote the host, or it is the only one that can be meant.
    has_host: bool,
    /// The name within the host, as in `library/redis`.
    pub path: String,
    /// `latest`, unless another tag or only a digest was given.
    pub tag: Option<String>,
    /// The digest of the manifest, as in `sha256:<digits>`.
    pub digest: Option<String>,
}

impl Name {
    /// Reads a reference; none if it is not one.
    pub fn parse(text: &str) -> Option<Name> {
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => (text, Some(digest)),
            None => (text, None),
        };
        let is_digest = |it: &str| {
            let digits = it.strip_prefix("sha256:").unwrap_or_default();
            digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if digest.is_some_and(|it| !is_digest(it)) {
            return None;
        }
        let (host, rest) = match text.split_once('/') {
            Some((host, rest)) if is_host(host) => (Some(host), rest),
            _ => (None, text),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !path.split('/').all(is_component) || tag.is_some_and(|it| !is_tag(it)) {
            return None;
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        let (host, has_host) = match host {
            None => ("docker.io", false),
            Some("index.docker.io") => ("docker.io", true),
            Some(host) => (host, true),
        };
        let path = match host == "docker.io" && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        // Of the name in full, as engines count it: or the full name of a reference would be none.
        if host.len() + 1 + path.len() > MAX_NAME {
            return None;
        }
        let (tag, digest) = (tag.map(str::to_owned), digest.map(str::to_owned));
        Some(Name { host: host.to_owned(), has_host, path, tag, digest })
    }

    /// The name that podman gives to one without a host when it builds or loads it.
    fn local(&self) -> Option<Name> {
        if self.has_host {
            return None;
        }
        let path = self.path.strip_prefix("library/").unwrap_or(&self.path).to_owned();
        Some(Name { host: "localhost".into(), has_host: true, path, ..self.clone() })
    }

    fn is_same(&self, other: &Name) -> bool {
        (&self.host, &self.path, &self.tag) == (&other.host, &other.path, &other.tag)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// A reference in full, by which two that mean the same are equal: `redis` is
/// `docker.io/library/redis:latest`. None for what is no reference.
pub fn full_name(reference: &str) -> Option<String> {
    Name::parse(reference).map(|name| name.to_string())
}

/// Whether two references mean the same image, or are the same text.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let names = Name::parse(one).zip(Name::parse(other));
    one == other || names.is_some_and(|(one, other)| one.is_same(&other))
}

/// The one image that is meant: by its reference, or without one the only image of the file.
///
/// `redis` means `docker.io/library/redis:latest`, as engines say it. A name without a host also
/// finds `localhost/<name>`, as podman calls it. `name@sha256:<digits>` finds the image whose
/// manifest or index has that digest.
///
/// # Errors
/// The reference is none; no image or more than one fits. The error lists what is there.
pub fn pick<'a>(
    images: &'a [FoundImage],
    reference: Option<&str>,
) -> Result<&'a FoundImage, PickError> {
    let found = || images.iter().map(FoundImage::to_string).collect::<Vec<_>>().join(", ");
    let fits: Vec<&FoundImage> = match reference {
        None => images.iter().collect(),
        Some(wanted) => {
            let name = Name::parse(wanted);
            let ranks: Vec<_> =
                images.iter().map(|it| Rank::of(it, wanted, name.as_ref())).collect();
            let best = ranks.iter().flatten().min();
            if best.is_none() && name.is_none() {
                return Err(PickError::Invalid(wanted.to_owned()));
            }
            let is_best = |rank: &Option<Rank>| rank.is_some() && rank.as_ref() == best;
            images.iter().zip(&ranks).filter(|it| is_best(it.1)).map(|it| it.0).collect()
        }
    };
    match (&fits[..], reference) {
        ([one], _) => Ok(one),
        ([], None) => Err(PickError::Empty),
        ([], Some(wanted)) => {
            Err(PickError::NotFound { wanted: wanted.to_owned(), found: found() })
        }
        _ => Err(PickError::Several { found: found() }),
    }
}

/// How well an image fits a reference, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The digest, or the text as it stands in the file.
    Exact,
    Name,
    /// The name without a host is that of a local image.
    Local,
}

impl Rank {
    fn of(image: &FoundImage, wanted: &str, name: Option<&Name>) -> Option<Rank> {
        let digest = image.digest.map(|it| format!("sha256:{it}"));
        let has = |name: &Name| {
            let is_it = |text: &String| Name::parse(text).is_some_and(|it| it.is_same(name));
            image.references.iter().any(is_it)
        };
        if image.references.iter().any(|it| it == wanted) {
            return Some(Rank::Exact);
        }
        match name? {
            name if name.digest.is_some() => (name.digest == digest).then_some(Rank::Exact),
            name if has(name) => Some(Rank::Name),
            name => name.local().filter(has).map(|_| Rank::Local),
        }
    }
}

fn is_host(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    let is_meant = text == "localhost" || text.contains(['.', ':']);
    is_meant && text.bytes().all(is_allowed) && !text.starts_with(['.', '-', ':'])
}

fn is_component(text: &str) -> bool {
    let is_allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let is_edge = |c: char| c.is_ascii_alphanumeric();
    text.bytes().all(is_allowed) && text.starts_with(is_edge) && text.ends_with(is_edge)
}

fn is_tag(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(is_allowed) && !text.starts_with(['.', '-'])
}
