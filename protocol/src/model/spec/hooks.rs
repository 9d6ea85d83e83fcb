//! Commands of a container beside its program: some after its start, some before it is asked to
//! end. They came after the fields of [`Extra`](super::Extra).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::container::Container;
use super::{InvalidSpec, Program, check_env_name, is_plain_path, shown};

/// Hooks of each kind: far more than people write.
const MAX_HOOKS: usize = 8;
/// Bytes of all texts of one container's hooks: a change must fit one gossip message.
const MAX_TEXT: usize = 4 * 1024;
/// The longest pause: a container that starts or ends waits for it.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The hooks of a container, each kind in its order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Run after its start, beside its program. The replica is not ready before they have ended
    /// well, and has failed when one fails.
    pub post_start: Vec<Hook>,
    /// Run before it is asked to end, within its grace. Its end goes on when one fails.
    pub pre_stop: Vec<Hook>,
}

/// A step beside the program of a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A command in the container, which has to end with 0.
    Exec(HookCommand),
    /// A pause.
    Sleep(Duration),
}

/// The command of a hook.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HookCommand {
    /// Its words.
    pub command: Vec<String>,
    /// The user that it runs as; none for the container's.
    pub user: Option<String>,
    /// Its working directory; none for the container's.
    pub workdir: Option<String>,
    /// Its environment besides that of the container.
    pub env: BTreeMap<String, String>,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hook::Exec(it) => {
                f.write_str(&shown::words(&it.command))?;
                it.user.iter().try_for_each(|user| write!(f, " as {user}"))?;
                it.workdir.iter().try_for_each(|path| write!(f, " in {path}"))
            }
            Hook::Sleep(time) => write!(f, "sleep {time:?}"),
        }
    }
}

impl Hooks {
    pub(super) fn is_default(&self) -> bool {
        *self == Hooks::default()
    }
}

/// Those of all containers, in their order; none if no container has any, whose spec keeps the
/// bytes that it had before there were any.
pub(super) fn hooks(program: &Program) -> Option<Vec<&Hooks>> {
    let all: Vec<&Hooks> = program.containers().iter().map(|it| &it.hooks).collect();
    all.iter().any(|it| !it.is_default()).then_some(all)
}

/// Reads what stands behind the further fields of containers.
pub(super) fn read(program: &mut Program, bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.is_empty() {
        return Ok(());
    }
    let containers = program.containers_mut();
    let all = codec::decode::<Vec<Hooks>>(bytes)?;
    if all.len() != containers.len() || all.iter().all(Hooks::is_default) {
        return Err(Malformed(format!("hooks of {} containers", all.len())));
    }
    for (container, hooks) in containers.iter_mut().zip(all) {
        container.hooks = hooks;
    }
    Ok(())
}

/// Checks those of all containers.
pub(super) fn check(containers: &[Container]) -> Result<(), InvalidSpec> {
    for container in containers {
        let Hooks { post_start, pre_stop } = &container.hooks;
        for (field, hooks) in [("post_start", post_start), ("pre_stop", pre_stop)] {
            check_all(container, hooks).map_err(|why| InvalidSpec::Container { field, why })?;
            for hook in hooks {
                if let Hook::Exec(it) = hook {
                    it.env.keys().try_for_each(|name| check_env_name(name))?;
                }
            }
        }
        let all = post_start.iter().chain(pre_stop).map(size).sum::<usize>();
        if all > MAX_TEXT {
            let why = format!("{all} bytes of hooks, at most {MAX_TEXT} are allowed");
            return Err(InvalidSpec::Container { field: "hooks", why });
        }
    }
    Ok(())
}

fn check_all(container: &Container, hooks: &[Hook]) -> Result<(), String> {
    if hooks.len() > MAX_HOOKS {
        return Err(format!("there are {}, at most {MAX_HOOKS} are allowed", hooks.len()));
    }
    if !hooks.is_empty() && container.member.role == super::Role::Init {
        let name = &container.name;
        return Err(format!("`{name}` is an init container: let its command do it"));
    }
    for hook in hooks {
        match hook {
            Hook::Exec(it) if it.command.first().is_none_or(String::is_empty) => {
                return Err("its `command` is missing".into());
            }
            Hook::Exec(HookCommand { workdir: Some(path), .. }) if !is_plain_path(path) => {
                return Err(format!("`{path}` is no absolute path"));
            }
            Hook::Exec(it) if it.texts().any(|text| text.contains('\0')) => {
                return Err("a text has a zero byte".into());
            }
            Hook::Sleep(time) if *time > MAX_PAUSE => {
                return Err(format!("it sleeps for {time:?}, an hour is the most"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn size(hook: &Hook) -> usize {
    match hook {
        Hook::Exec(it) => it.texts().map(|text| text.len() + 1).sum(),
        Hook::Sleep(_) => 0,
    }
}

impl HookCommand {
    fn texts(&self) -> impl Iterator<Item = &String> {
        let HookCommand { command, user, workdir, env } = self;
        let env = env.iter().flat_map(|(name, value)| [name, value]);
        command.iter().chain(user).chain(workdir).chain(env)
    }
}

#[cfg(test)]
mod tests {
    use super::super::extra::tests::{form, spec};
    use super::super::{Extra, Image, LaunchFact, Role, Spec, SpecForm};
    use super::*;
    use crate::model::Value;

    fn exec(command: &[&str]) -> Hook {
        let command = command.iter().map(|it| (*it).to_owned()).collect();
        Hook::Exec(HookCommand { command, ..HookCommand::default() })
    }

    fn full() -> Hooks {
        let root = HookCommand {
            command: vec!["chown".into(), "app".into(), "/data".into()],
            user: Some("root".into()),
            workdir: Some("/data".into()),
            env: [("A".to_owned(), "b".to_owned())].into(),
        };
        let pre_stop = vec![Hook::Sleep(Duration::from_secs(5)), exec(&["nginx", "-s", "quit"])];
        Hooks { post_start: vec![Hook::Exec(root)], pre_stop }
    }

    /// An older program would start it without them, so it must not read them. With further fields
    /// of the container and without, alone and in a group, they come back as they were.
    #[test]
    fn they_are_of_form_3_and_a_new_revision() {
        for extra in [
            Extra::default(),
            Extra { env_from: [("N".into(), LaunchFact::Name)].into(), ..Extra::default() },
        ] {
            let of = extra.clone();
            let used = spec(|it| (it.hooks, it.extra) = (full(), of));
            let value = Value::workload(&used);
            let Value::Workload { version, bytes } = &value else { panic!() };
            assert_eq!((*version, value.spec(), value.check()), (3, Some(used.clone()), Ok(())));
            assert!(super::super::decode(2, bytes).is_err());
            assert!(super::super::decode(3, &bytes[..bytes.len() - 1]).is_err());
            assert_ne!(used.revision(), spec(|it| it.extra = extra).revision());
            let mut group = SpecForm::from(used);
            let Program::Containers(containers) = &mut group.program else { panic!() };
            let mut other = Container::of("other", Image::named("db:2"));
            other.member.role = Role::Sidecar;
            other.hooks.pre_stop = vec![exec(&["true"])];
            containers.push(other);
            let group = Spec::try_from(group).unwrap();
            assert_eq!(Value::workload(&group).spec(), Some(group));
        }
    }

    #[test]
    fn faults_are_told_by_the_field() {
        let refused = |change: fn(&mut Hooks)| {
            let error = Spec::try_from(form(|it| change(&mut it.hooks))).unwrap_err();
            error.to_string()
        };
        let long = |it: &mut Hooks| it.pre_stop = vec![Hook::Sleep(Duration::from_secs(3601))];
        let wordless = |it: &mut Hooks| it.post_start = vec![exec(&[])];
        let many = |it: &mut Hooks| it.post_start = vec![exec(&["a"]); 9];
        let large = |it: &mut Hooks| it.pre_stop = vec![exec(&[&"a".repeat(4096)])];
        let relative = |it: &mut Hooks| {
            let workdir = Some("data".into());
            let it = &mut it.pre_stop;
            let command = vec!["a".into()];
            it.push(Hook::Exec(HookCommand { command, workdir, ..HookCommand::default() }));
        };
        for (text, wanted) in [
            (refused(long), "pre_stop: it sleeps for 3601s, an hour is the most"),
            (refused(wordless), "post_start: its `command` is missing"),
            (refused(many), "post_start: there are 9, at most 8 are allowed"),
            (refused(large), "hooks: 4097 bytes of hooks, at most 4096 are allowed"),
            (refused(relative), "pre_stop: `data` is no absolute path"),
        ] {
            assert_eq!(text, wanted);
        }
    }
}
