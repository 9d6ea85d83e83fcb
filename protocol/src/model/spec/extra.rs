//! Fields of a container that came after groups: names and name servers of its own, further groups
//! of its user, and variables that its node fills in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::container::{Container, NetworkMode};
use super::{InvalidSpec, Program, SpecForm, Target, ValueUse, check_env_name};

/// Items of each list: far more than people name.
const MAX_ITEMS: usize = 32;
/// Name servers of a container: its resolver asks three at most.
const MAX_SERVERS: usize = 8;
/// Bytes of a name in DNS.
const MAX_NAME: usize = 253;
/// Bytes of an option of a resolver, and of the name of a group.
const MAX_WORD: usize = 64;
/// Bytes of all texts of one container: a change must fit one gossip message.
const MAX_TEXT: usize = 4 * 1024;
/// Docker's word for the address of the device.
const GATEWAY: &str = "host-gateway";

/// Fields of a container that came after groups. Each default means what a container has without
/// them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extra {
    /// Lines of its `/etc/hosts`. Those of a group are of its main container.
    pub hosts: Vec<ExtraHost>,
    /// The name servers that it asks in place of its node's: names of other workloads are unknown
    /// to them. Those of a group are of its main container, as is all that follows about names.
    pub dns: Vec<IpAddr>,
    /// The domains in which its resolver looks for a name, behind its namespace's; with name
    /// servers of its own these alone.
    pub dns_search: Vec<String>,
    /// Options of its resolver, as in `ndots:2`.
    pub dns_opt: Vec<String>,
    /// Further groups of its user, by number or by a name of the image.
    pub groups: Vec<String>,
    /// Variables of its environment that the node fills in when it starts.
    pub env_from: BTreeMap<String, LaunchFact>,
    /// Further names at which others of its namespace reach the workload, besides its own.
    pub aliases: Vec<String>,
}

/// A name with an address, as a container's `/etc/hosts` has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: HostAddress,
}

/// The address of a further name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostAddress {
    /// An address.
    Ip(IpAddr),
    /// That at which a container reaches its own device.
    Gateway,
}

/// A fact of a replica that its node knows when it starts it, and nobody before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchFact {
    /// The name of the node, as in `SHOAL_NODE`.
    Node,
    /// The id of the node, as in `SHOAL_NODE_ID`.
    NodeId,
    /// The replica, as in `SHOAL_REPLICA`.
    Replica,
    /// The name of the replica without its namespace, a DNS label: its host name, unless it has
    /// another one.
    Name,
    /// A text that no other replica, version or node has: a restart keeps it.
    Uid,
    /// The number of the replica, or of a job's index, from 0; 0 of a daemon.
    Index,
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            HostAddress::Ip(ip) => write!(f, "{}:{ip}", self.name),
            HostAddress::Gateway => write!(f, "{}:{GATEWAY}", self.name),
        }
    }
}

impl FromStr for HostAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<HostAddress, String> {
        if text == GATEWAY {
            return Ok(HostAddress::Gateway);
        }
        let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
        let wrong = |_| format!("`{text}` is no address, as `10.0.0.5` is one, and not {GATEWAY}");
        bare.parse().map(HostAddress::Ip).map_err(wrong)
    }
}

impl FromStr for ExtraHost {
    type Err = String;

    /// Reads `NAME:ADDRESS` or `NAME=ADDRESS`, as docker has it.
    fn from_str(text: &str) -> Result<ExtraHost, String> {
        let Some((name, address)) = text.split_once(['=', ':']) else {
            return Err(format!("`{text}` is not of the form NAME:ADDRESS"));
        };
        Ok(ExtraHost { name: name.to_owned(), address: address.parse()? })
    }
}

impl TryFrom<String> for ExtraHost {
    type Error = String;

    fn try_from(text: String) -> Result<ExtraHost, String> {
        text.parse()
    }
}

impl From<ExtraHost> for String {
    fn from(host: ExtraHost) -> String {
        host.to_string()
    }
}

impl LaunchFact {
    const ALL: [LaunchFact; 6] = [
        LaunchFact::Node,
        LaunchFact::NodeId,
        LaunchFact::Replica,
        LaunchFact::Name,
        LaunchFact::Uid,
        LaunchFact::Index,
    ];

    /// The word that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            LaunchFact::Node => "node",
            LaunchFact::NodeId => "node-id",
            LaunchFact::Replica => "replica",
            LaunchFact::Name => "name",
            LaunchFact::Uid => "uid",
            LaunchFact::Index => "index",
        }
    }
}

impl fmt::Display for LaunchFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LaunchFact {
    type Err = String;

    fn from_str(text: &str) -> Result<LaunchFact, String> {
        let found = LaunchFact::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| {
            format!("`{text}` is none of node, node-id, replica, name, uid and index")
        })
    }
}

impl Extra {
    pub(super) fn is_default(&self) -> bool {
        *self == Extra::default()
    }

    /// The first of its fields that is about names, as a manifest calls it.
    fn about_names(&self) -> Option<&'static str> {
        let fields = [
            ("extra_hosts", !self.hosts.is_empty()),
            ("dns", !self.dns.is_empty()),
            ("dns_search", !self.dns_search.is_empty()),
            ("dns_opt", !self.dns_opt.is_empty()),
            ("aliases", !self.aliases.is_empty()),
        ];
        fields.into_iter().find_map(|(field, is_there)| is_there.then_some(field))
    }
}

/// Those of all containers, in their order; none if no container has any, whose spec keeps the
/// bytes that it had before there were any.
pub(super) fn extras(program: &Program) -> Option<Vec<&Extra>> {
    let all: Vec<&Extra> = program.containers().iter().map(|it| &it.extra).collect();
    all.iter().any(|it| !it.is_default()).then_some(all)
}

/// Reads what stands behind a group, and tells what stands behind that: the hooks.
pub(super) fn read<'a>(program: &mut Program, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let containers = program.containers_mut();
    if containers.is_empty() {
        return Err(Malformed(format!("{} bytes left over", bytes.len())));
    }
    let (extras, rest) = codec::decode_rest::<Vec<Extra>>(bytes)?;
    // They stand there for themselves, or before hooks.
    let is_needed = !rest.is_empty() || !extras.iter().all(Extra::is_default);
    if extras.len() != containers.len() || !is_needed {
        return Err(Malformed(format!("further fields of {} containers", extras.len())));
    }
    for (container, extra) in containers.iter_mut().zip(extras) {
        container.extra = extra;
    }
    Ok(rest)
}

/// Checks those of all containers.
pub(super) fn check(containers: &[Container], form: &SpecForm) -> Result<(), InvalidSpec> {
    for (at, container) in containers.iter().enumerate() {
        let values = match at {
            0 => &form.later.values,
            _ => &container.member.values,
        };
        let wrong = |(field, why)| InvalidSpec::Container { field, why };
        check_one(container, at > 0, values).map_err(wrong)?;
        container.extra.env_from.keys().try_for_each(|name| check_env_name(name))?;
    }
    Ok(())
}

type Wrong = (&'static str, String);

fn check_one(container: &Container, is_other: bool, values: &[ValueUse]) -> Result<(), Wrong> {
    let Extra { hosts, dns, dns_search, dns_opt, groups, env_from, aliases } = &container.extra;
    for (field, count, most) in [
        ("extra_hosts", hosts.len(), MAX_ITEMS),
        ("dns", dns.len(), MAX_SERVERS),
        ("dns_search", dns_search.len(), MAX_ITEMS),
        ("dns_opt", dns_opt.len(), MAX_ITEMS),
        ("group_add", groups.len(), MAX_ITEMS),
        ("env_from", env_from.len(), MAX_ITEMS),
        ("aliases", aliases.len(), MAX_ITEMS),
    ] {
        if count > most {
            return Err((field, format!("there are {count}, at most {most} are allowed")));
        }
    }
    let names = hosts.iter().map(|it| &it.name).chain(env_from.keys());
    let texts = names.chain(dns_search).chain(dns_opt).chain(groups).chain(aliases);
    let bytes: usize = texts.map(|text| text.len() + 1).sum();
    if bytes > MAX_TEXT {
        let why = format!("{bytes} bytes of names, groups and variables, at most {MAX_TEXT}");
        return Err(("container", why));
    }
    if let Some(field) = container.extra.about_names() {
        if is_other {
            let name = &container.name;
            let why = format!("`{name}` shares the network of the main container: write it there");
            return Err((field, why));
        }
        if container.network == NetworkMode::None {
            return Err((field, "a container without a network reaches no host".into()));
        }
    }
    if let Some(ExtraHost { name, .. }) = hosts.iter().find(|it| !is_host(&it.name)) {
        return Err(("extra_hosts", format!("`{name}` is no name of a host")));
    }
    if let Some(ip) = dns.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        return Err(("dns", format!("`{ip}` is the address of no server")));
    }
    if let Some(name) = dns_search.iter().find(|it| *it != "." && !is_host(it)) {
        return Err(("dns_search", format!("`{name}` is no domain, as `example.org` is one")));
    }
    let is_option = |it: &String| {
        (1..=MAX_WORD).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_graphic())
    };
    if let Some(text) = dns_opt.iter().find(|it| !is_option(it)) {
        return Err(("dns_opt", format!("{text:?} is no option, as `ndots:2` is one")));
    }
    if let Some(text) = groups.iter().find(|it| !is_group(it)) {
        let why = format!("`{text}` is no number and no name of a group");
        return Err(("group_add", why));
    }
    if let Some(name) = aliases.iter().find(|it| !is_alias(it)) {
        let why = format!("`{name}` is no name: 1 to 63 of a-z, 0-9, `-` and `_` are expected");
        return Err(("aliases", why));
    }
    let taken: BTreeSet<&str> = container
        .env
        .keys()
        .map(String::as_str)
        .chain(values.iter().filter_map(|it| match &it.to {
            Target::Env(name) => Some(name.as_str()),
            _ => None,
        }))
        .collect();
    match env_from.keys().find(|name| taken.contains(name.as_str())) {
        Some(name) => Err(("env_from", format!("`{name}` has another value, too: leave one away"))),
        None => Ok(()),
    }
}

fn is_host(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(['-', '.'])
}

/// Whether it is one part of a name in DNS. Unlike the name of a workload it may have a `_`.
pub fn is_alias(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| is_plain(b) || matches!(b, b'-' | b'_'))
        && text.bytes().next().is_some_and(is_plain)
}

/// Not `keep-groups`, a word of one engine, which gives a container the groups of the node's user.
fn is_group(text: &str) -> bool {
    let is_number = text.parse::<i32>().is_ok_and(|number| number >= 0);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = starts && text.len() <= MAX_WORD && text.bytes().all(is_plain);
    text != "keep-groups" && (is_number || is_name)
}

#[cfg(test)]
pub(super) mod tests;
