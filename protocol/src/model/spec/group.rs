//! Groups of several containers in one replica, as a pod of Kubernetes is one: their parts in it,
//! and what each has besides the fields of form 2.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::super::name::Label;
use super::super::resources::Resources;
use super::container::{Container, NetworkMode};
use super::{
    Health, InvalidSpec, MAX_ENV_BYTES, MAX_MEMORY, NO_CPU_LIMIT, Program, Requirements, SpecForm,
    ValueUse,
};

/// Containers of one replica: each takes calls of the engine at every start.
pub const MAX_CONTAINERS: usize = 16;
/// The least memory limit of a container: engines refuse less.
const MIN_MEMORY: u64 = 6 << 20;

/// The part of a container in its group.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is what the replica is for. The replica has ended when one of a service has, or all of a
    /// job have.
    #[default]
    App,
    /// It runs to its end before those behind it are started.
    Init,
    /// It is started in the order of the init containers, and runs beside the others until they
    /// have ended.
    Sidecar,
}

/// The parts of a container of a group besides the fields of form 2. One alone has the default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Member {
    /// Its part in the group.
    pub role: Role,
    /// Its share of what is reserved for the replica; it has a limit of its own then, too.
    pub reservation: Option<Resources>,
    /// Its probes. Those of the main container are the replica's.
    pub health: Health,
    /// Its secrets and configs. Those of the main container are the replica's.
    pub values: Vec<ValueUse>,
}

impl Role {
    const ALL: [Role; 3] = [Role::App, Role::Init, Role::Sidecar];

    /// The word that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::App => "app",
            Role::Init => "init",
            Role::Sidecar => "sidecar",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let found = Role::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is none of app, init and sidecar"))
    }
}

impl Member {
    pub(super) fn is_default(&self) -> bool {
        *self == Member::default()
    }
}

/// A part that stands in text as it is, and in bincode behind the form: see [`members`].
pub(super) mod in_text {
    use serde::de::DeserializeOwned;
    use serde::{Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        match to.is_human_readable() {
            true => value.serialize(to),
            // No bytes.
            false => to.serialize_unit(),
        }
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: DeserializeOwned + Default,
        D: Deserializer<'de>,
    {
        match from.is_human_readable() {
            true => T::deserialize(from),
            false => Ok(T::default()),
        }
    }
}

/// Their parts besides the fields of form 2; none if there is one container, or none.
pub(super) fn members(program: &Program) -> Option<Vec<&Member>> {
    let containers = program.containers();
    (containers.len() > 1).then(|| containers.iter().map(|it| &it.member).collect())
}

/// Reads what stands behind form 3 for a group of several, and tells what stands behind that.
pub(super) fn read<'a>(program: &mut Program, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let containers = program.containers_mut();
    if containers.len() < 2 {
        return Ok(bytes);
    }
    let (members, rest) = codec::decode_rest::<Vec<Member>>(bytes)?;
    if members.len() != containers.len() {
        return Err(Malformed(format!("{} members of a group", members.len())));
    }
    for (container, member) in containers.iter_mut().zip(members) {
        container.member = member;
    }
    Ok(rest)
}

/// The size of a replica of these containers, if each has a size of its own: the greater one of
/// what all need that run at one time, and of what an init container needs beside the sidecars that
/// were started before it.
pub fn size_of_group(containers: &[Container]) -> Option<Requirements> {
    let add = |a: Resources, b: Resources, most_cpu: u32| Resources {
        memory: a.memory.saturating_add(b.memory).min(MAX_MEMORY),
        cpu: a.cpu.saturating_add(b.cpu).min(most_cpu),
    };
    let most = |a: Resources, b: Resources| Resources {
        memory: a.memory.max(b.memory),
        cpu: a.cpu.max(b.cpu),
    };
    let sum = |of: &dyn Fn(&Container) -> Option<Resources>| {
        let (mut sidecars, mut apps) = (Resources::default(), Resources::default());
        let mut inits = Resources::default();
        for container in containers {
            let own = of(container)?;
            match container.member.role {
                Role::App => apps = add(apps, own, NO_CPU_LIMIT),
                Role::Sidecar => sidecars = add(sidecars, own, NO_CPU_LIMIT),
                Role::Init => inits = most(inits, add(sidecars, own, NO_CPU_LIMIT)),
            }
        }
        Some(most(inits, add(apps, sidecars, NO_CPU_LIMIT)))
    };
    let reservation = sum(&|it| it.member.reservation)?;
    Some(Requirements { reservation, limit: sum(&|it| it.limit)? })
}

/// Checks that containers are a group.
pub(super) fn check(containers: &[Container], form: &SpecForm) -> Result<(), InvalidSpec> {
    let wrong = |why: String| Err(InvalidSpec::Container { field: "containers", why });
    let (count, most) = (containers.len(), MAX_CONTAINERS);
    let Some(main) = containers.first().filter(|_| count <= most) else {
        return wrong(format!("there are {count}, from 1 to {most} are allowed"));
    };
    if count == 1 {
        return match main.member.is_default() {
            true => Ok(()),
            false => wrong("a container alone has no part in a group".into()),
        };
    }
    let Member { role, reservation: _, health, values } = &main.member;
    if *role != Role::App {
        return wrong(format!("the first one is the main one, and `{}` is {role}", main.name));
    }
    if !health.is_empty() || !values.is_empty() {
        return wrong("probes and values of the main one are those of the replica".into());
    }
    let mut names = BTreeSet::new();
    for container in containers {
        let name = &container.name;
        if let Err(error) = name.parse::<Label>() {
            return wrong(error.to_string());
        }
        if !names.insert(name) {
            return wrong(format!("two are called `{name}`"));
        }
        if let Err(why) = check_one(container, main, form) {
            return wrong(format!("`{name}`: {why}"));
        }
    }
    if containers.iter().filter(|it| it.http.is_some()).count() > 1 {
        return wrong("two have a `port` for HTTP, and a replica answers at one".into());
    }
    let env = containers.iter().flat_map(|it| &it.env);
    let bytes = env.map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ENV_BYTES {
        return Err(InvalidSpec::EnvBytes(bytes));
    }
    Ok(())
}

fn check_one(container: &Container, main: &Container, form: &SpecForm) -> Result<(), String> {
    let Container { hostname, network, http, limit, member, .. } = container;
    let Member { role, reservation, health, values: _ } = member;
    if network != &main.network {
        return Err("all of a group share one network: give each the same `network`".into());
    }
    if hostname.is_some() && container.name != main.name && *network != NetworkMode::Host {
        return Err("the host name is that of the main one, whose network it shares".into());
    }
    if *role == Role::Init && (http.is_some() || !health.is_empty()) {
        return Err("an init container ends before anybody asks it: no port and no probes".into());
    }
    match (reservation, limit) {
        (None, None) => Ok(()),
        (Some(least), Some(most)) => {
            let replica = form.resources.limit;
            if most.memory < least.memory || most.cpu < least.cpu {
                return Err("its limit is below what is reserved for it".into());
            }
            if least.memory == 0 || most.memory < MIN_MEMORY || least.cpu == 0 {
                return Err("it needs at least 6 MiB, and some of a core".into());
            }
            if most.memory > replica.memory {
                return Err("its memory limit is above the replica's".into());
            }
            Ok(())
        }
        _ => Err("it has a reservation and a limit, or neither".into()),
    }
}

#[cfg(test)]
mod tests;
