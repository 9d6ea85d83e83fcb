//! Names and name servers that a pod has of its own, and further groups of its users.

use std::net::IpAddr;

use shoal_protocol::model::spec::{Extra, ExtraHost, HostAddress};

use super::super::verdict::Judged;
use super::scalar::Part;

/// Reads `hostAliases`, `dnsConfig` with `dnsPolicy`, and the groups of the pod's security context.
pub(super) fn own_names(spec: &Part<'_>, out: &mut Judged) -> Extra {
    let (dns, mut dns_search, dns_opt) = resolver(spec, out);
    dns_search.retain(|it| !it.is_empty());
    let hosts = hosts(spec, out);
    Extra { hosts, dns, dns_search, dns_opt, groups: groups(spec, out), ..Extra::default() }
}

fn hosts(spec: &Part<'_>, out: &mut Judged) -> Vec<ExtraHost> {
    let mut all = Vec::new();
    for alias in spec.get("hostAliases").items(out) {
        let ip = alias.get("ip");
        if !ip.is_there() {
            out.refuse(ip.wrong("it is missing"));
        }
        let Some(address) = address(&ip, out) else { continue };
        for name in alias.get("hostnames").texts(out) {
            all.push(ExtraHost { name, address: HostAddress::Ip(address) });
        }
    }
    all
}

fn address(part: &Part<'_>, out: &mut Judged) -> Option<IpAddr> {
    let text = part.text(out)?;
    let read = text.parse().ok();
    if read.is_none() {
        out.refuse(part.wrong(format!("`{text}` is no address")));
    }
    read
}

fn resolver(spec: &Part<'_>, out: &mut Judged) -> (Vec<IpAddr>, Vec<String>, Vec<String>) {
    let policy = spec.get("dnsPolicy");
    let is_own = policy.text(out).is_some_and(|it| it == "None");
    let config = spec.get("dnsConfig");
    let servers = config.get("nameservers");
    let mut dns = Vec::new();
    for part in servers.items(out) {
        dns.extend(address(&part, out));
    }
    if is_own && dns.is_empty() && out.problems.is_empty() {
        let problem = policy.wrong("`None` needs name servers of its own");
        out.refuse(problem.hint("Write `dnsConfig: { nameservers: [..] }`, or leave it away."));
    }
    if !is_own && !dns.is_empty() {
        let why = "left out: the node is asked, which knows workloads and asks its own servers; \
            `dnsPolicy: None` asks these alone";
        out.degrade(servers.at, servers.path, why);
        dns.clear();
    }
    let options = config.get("options").items(out);
    let option = |part: &Part<'_>, out: &mut Judged| {
        let name = part.get("name").text(out)?;
        Some(match part.get("value").text(out) {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name,
        })
    };
    let options = options.iter().filter_map(|it| option(it, out)).collect();
    (dns, config.get("searches").texts(out), options)
}

fn groups(spec: &Part<'_>, out: &mut Judged) -> Vec<String> {
    let security = spec.get("securityContext");
    // Kubernetes adds the group of volumes to those of each user, too. New volumes belong to the
    // first one.
    let of_volumes = security.get("fsGroup");
    let mut all: Vec<String> = Vec::new();
    for part in [of_volumes].into_iter().chain(security.get("supplementalGroups").items(out)) {
        let number = part.int(0..=i64::from(i32::MAX), out).map(|it| it.to_string());
        all.extend(number.filter(|it| !all.contains(it)));
    }
    all
}
