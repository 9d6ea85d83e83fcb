//! The options of a container in words, for views and for the differences of two specs.

use std::fmt;

use super::super::resources::Resources;
use super::NO_CPU_LIMIT;
use super::container::{
    Container, Device, Image, Mount, NetworkMode, Privileges, PullPolicy, Tmpfs,
};
use super::extra::{Extra, ExtraHost};
use super::group::{Member, Role};
use super::hooks::{Hook, Hooks};
use super::values::{ValueKind, ValueUse};

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host == self.path {
            true => f.write_str(&self.host),
            false => write!(f, "{}:{}", self.host, self.path),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.read_only { ":ro" } else { "" };
        write!(f, "{}:{}{mode}", self.volume, self.path)
    }
}

impl Container {
    /// The options that are not left at their defaults, by the name and in the form that a manifest
    /// has them. Not among them: the image, which views show by itself, and the environment.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        // All fields are named, so that a new one is not forgotten.
        let Container {
            name: _,
            image: Image { reference: _, digest, pull, platforms: _ },
            entrypoint,
            command,
            env: _,
            user,
            workdir,
            hostname,
            labels,
            network,
            http,
            mounts,
            tmpfs,
            read_only,
            init,
            stop_signal,
            stop_grace,
            shm_size,
            ulimits,
            sysctls,
            privileges: Privileges { privileged, cap_add, cap_drop, devices, security },
            limit,
            member: Member { role, reservation, health, values },
            extra: Extra { hosts, dns, dns_search, dns_opt, groups, env_from, aliases },
            hooks: Hooks { post_start, pre_stop },
        } = self;
        let flag = |is_set: &bool| is_set.then(|| "true".to_owned());
        let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(", "));
        let pairs = |name: &String, value: &String| format!("{name}={value}");
        let mounts = mounts.iter().map(Mount::to_string);
        let limits = ulimits.iter().map(|(name, limit)| {
            let one = limit.soft == limit.hard;
            let hard = if one { String::new() } else { format!(":{}", limit.hard) };
            format!("{name}={}{hard}", limit.soft)
        });
        let sized = |it: Resources| match it.cpu {
            NO_CPU_LIMIT => format!("{} of memory, any CPU", size(it.memory)),
            cpu => format!("{} of memory, {cpu}m of CPU", size(it.memory)),
        };
        let of = |kind: ValueKind| {
            list(values.iter().filter(|it| it.kind == kind).map(ValueUse::shown).collect())
        };
        let role = (*role != Role::default()).then(|| role.as_str().to_owned());
        let all = [
            ("port", http.map(|port| port.to_string())),
            ("entrypoint", entrypoint.as_ref().map(|it| words(it))),
            ("command", command.as_ref().map(|it| words(it))),
            ("user", user.clone()),
            ("workdir", workdir.clone()),
            ("hostname", hostname.clone()),
            ("labels", list(labels.iter().map(|(name, value)| pairs(name, value)).collect())),
            ("network", network_word(*network)),
            ("volumes", list(mounts.collect())),
            ("tmpfs", list(tmpfs.iter().map(tmpfs_text).collect())),
            ("read_only", flag(read_only)),
            ("init", flag(init)),
            ("privileged", flag(privileged)),
            ("cap_add", list(cap_add.clone())),
            ("cap_drop", list(cap_drop.clone())),
            ("devices", list(devices.iter().map(Device::to_string).collect())),
            ("security", list(security.clone())),
            ("stop_signal", stop_signal.clone()),
            ("stop_grace", stop_grace.map(|grace| format!("{grace:?}"))),
            ("shm_size", shm_size.map(size)),
            ("ulimits", list(limits.collect())),
            ("sysctls", list(sysctls.iter().map(|(name, value)| pairs(name, value)).collect())),
            ("extra_hosts", list(hosts.iter().map(ExtraHost::to_string).collect())),
            ("dns", list(dns.iter().map(|it| it.to_string()).collect())),
            ("dns_search", list(dns_search.clone())),
            ("dns_opt", list(dns_opt.clone())),
            ("group_add", list(groups.clone())),
            ("env_from", list(env_from.iter().map(|(name, of)| format!("{name}={of}")).collect())),
            ("aliases", list(aliases.clone())),
            ("post_start", list(post_start.iter().map(Hook::to_string).collect())),
            ("pre_stop", list(pre_stop.iter().map(Hook::to_string).collect())),
            ("pull", pull_word(*pull)),
            ("digest", digest.map(|digest| digest.short())),
            ("role", role),
            ("reservation", reservation.map(sized)),
            ("container limit", limit.map(sized)),
            ("secrets", of(ValueKind::Secret)),
            ("configs", of(ValueKind::Config)),
        ];
        let all = all.into_iter().filter_map(|(name, text)| Some((name, text?)));
        all.chain(health.options()).collect()
    }
}

/// A command as a shell would take it. An empty one is shown, too: it clears the image's.
pub(super) fn words(words: &[String]) -> String {
    const PLAIN: &str = "-_./:=,@%+";
    let is_plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c))
    };
    let quoted = words.iter().map(|word| match is_plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    match words {
        [] => "''".to_owned(),
        _ => quoted.collect::<Vec<_>>().join(" "),
    }
}

fn network_word(mode: NetworkMode) -> Option<String> {
    match mode {
        NetworkMode::Bridge => None,
        NetworkMode::Host => Some("host".into()),
        NetworkMode::None => Some("none".into()),
    }
}

fn pull_word(policy: PullPolicy) -> Option<String> {
    match policy {
        PullPolicy::Missing => None,
        PullPolicy::Always => Some("always".into()),
        PullPolicy::Never => Some("never".into()),
    }
}

fn tmpfs_text(tmpfs: &Tmpfs) -> String {
    let options: Vec<String> = tmpfs
        .size
        .map(|bytes| format!("size={}", size(bytes)))
        .into_iter()
        .chain(tmpfs.exec.then(|| "exec".to_owned()))
        .collect();
    match options.is_empty() {
        true => tmpfs.path.clone(),
        false => format!("{}:{}", tmpfs.path, options.join(",")),
    }
}

/// A number of bytes that a manifest reads back: in the greatest unit in which it is whole.
pub(super) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes >> bits << bits == bytes && bytes > 0);
    match unit {
        Some((bits, unit)) => format!("{}{unit}", bytes >> bits),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::container::Ulimit;
    use super::*;

    /// Differences once read `ulimits {"nofile": Ulimit { soft: 1, hard: 2 }}`.
    #[test]
    fn options_are_shown_as_a_manifest_has_them() {
        let mut container = Container::of("main", Image::named("redis:7"));
        assert_eq!(container.options(), []);
        container.http = Some(80);
        container.command = Some(vec!["sh".into(), "-c".into(), "it's 1".into()]);
        container.entrypoint = Some(Vec::new());
        container.ulimits = [
            ("core".to_owned(), Ulimit { soft: 0, hard: 0 }),
            ("nofile".to_owned(), Ulimit { soft: 1, hard: 2 }),
        ]
        .into();
        container.tmpfs = vec![Tmpfs { path: "/run".into(), size: Some(64 << 10), exec: true }];
        container.shm_size = Some(1 << 30);
        container.read_only = true;
        container.extra.hosts = vec!["db:10.0.0.5".parse().unwrap()];
        container.extra.dns = vec![[1, 1, 1, 1].into()];
        container.extra.groups = vec!["audio".into(), "7".into()];
        container.image.pull = PullPolicy::Never;
        let shown: Vec<String> =
            container.options().into_iter().map(|(name, text)| format!("{name}: {text}")).collect();
        assert_eq!(
            shown,
            [
                "port: 80",
                "entrypoint: ''",
                r"command: sh -c 'it'\''s 1'",
                "tmpfs: /run:size=64KiB,exec",
                "read_only: true",
                "shm_size: 1GiB",
                "ulimits: core=0, nofile=1:2",
                "extra_hosts: db:10.0.0.5",
                "dns: 1.1.1.1",
                "group_add: audio, 7",
                "pull: never",
            ]
        );
    }
}
