//! The secrets and configs that the replicas of a workload get.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::change::Key;
use super::super::name::{Label, WorkloadName};
use super::{Container, InvalidSpec, Program, SpecForm, is_plain_path};

/// Secrets and configs of one workload: far more than people name, and few enough for one view.
pub const MAX_USES: usize = 32;
/// The folder in which a replica finds its secrets, if nothing else is said.
pub const SECRETS: &str = "/run/secrets";
/// Bytes of a path in a container: engines put it into one line of a mount table.
const MAX_PATH: usize = 200;

/// Whether a value is kept from people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// Sealed to the nodes that may read it.
    Secret,
    /// For every node to read.
    Config,
}

/// A secret or config of the workload's own namespace, and where each replica finds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueUse {
    /// Which of the two.
    pub kind: ValueKind,
    /// Its name within the workload's namespace.
    pub name: Label,
    /// Where replicas find it.
    pub to: Target,
}

/// Where a replica finds a value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// In a variable of its environment.
    Env(String),
    /// In a file.
    File {
        /// The absolute path in the container.
        path: String,
        /// The permissions, as in `0o400`.
        mode: u32,
        /// The file's owner; none for the container's user, if that is a number, or else root.
        uid: Option<u32>,
        /// The file's group; as `uid`.
        gid: Option<u32>,
    },
}

impl ValueKind {
    /// The kind as the command line has it.
    pub fn word(self) -> &'static str {
        match self {
            ValueKind::Secret => "secret",
            ValueKind::Config => "config",
        }
    }

    /// The key of desired state of a value of this kind.
    pub fn key(self, name: WorkloadName) -> Key {
        match self {
            ValueKind::Secret => Key::Secret(name),
            ValueKind::Config => Key::Config(name),
        }
    }
}

impl ValueUse {
    /// The full name of the value.
    pub fn of(&self, namespace: &Label) -> WorkloadName {
        WorkloadName { namespace: namespace.clone(), name: self.name.clone() }
    }

    /// The key of the value.
    pub fn key(&self, namespace: &Label) -> Key {
        self.kind.key(self.of(namespace))
    }

    /// Name and target as the command line has them.
    pub fn shown(&self) -> String {
        let name = &self.name;
        match &self.to {
            Target::Env(variable) => format!("{name} (env {variable})"),
            Target::File { path, mode, uid, gid } => {
                let owner = |what: &str, id: &Option<u32>| {
                    id.map(|id| format!(", {what} {id}")).unwrap_or_default()
                };
                format!("{name} ({path}, {mode:04o}{}{})", owner("uid", uid), owner("gid", gid))
            }
        }
    }
}

/// Checks the values of a form.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let all = form.values().count();
    if all > MAX_USES {
        let why = format!("{all} of them, at most {MAX_USES} are allowed");
        return Err(InvalidSpec::Container { field: "secrets and configs", why });
    }
    let main = form.program.containers().first();
    check_of(main, &form.later.values, form)?;
    for container in form.program.containers() {
        check_of(Some(container), &container.member.values, form)?;
    }
    Ok(())
}

/// Checks the values of one container, or of a component.
fn check_of(
    container: Option<&Container>,
    uses: &[ValueUse],
    form: &SpecForm,
) -> Result<(), InvalidSpec> {
    let wrong = |of: &ValueUse, why: String| {
        Err(InvalidSpec::Container { field: of.kind.word(), why: format!("`{}`: {why}", of.name) })
    };
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    if let Some(container) = container {
        taken.extend(container.tmpfs.iter().map(|it| it.path.as_str()));
        taken.extend(container.mounts.iter().map(|it| it.path.as_str()));
    }
    let env = container.map_or(form.env(), |container| &container.env);
    let mut names: BTreeSet<&str> = env.keys().map(String::as_str).collect();
    for of in uses {
        match &of.to {
            Target::Env(name) => {
                super::check_env_name(name)?;
                if !names.insert(name) {
                    return wrong(of, format!("the variable {name} is set twice"));
                }
            }
            Target::File { .. } if matches!(form.program, Program::Wasm(_)) => {
                return wrong(
                    of,
                    format!(
                        "a component has no files: give it as a variable, as in {}:env=NAME",
                        of.name
                    ),
                );
            }
            Target::File { path, mode, .. } => {
                let is_path = is_plain_path(path) && path != "/" && path.len() <= MAX_PATH;
                if !is_path || path.contains(':') {
                    let why = format!("`{path}` is no absolute path of a file");
                    return wrong(of, why);
                }
                if *mode == 0 || *mode > 0o777 {
                    return wrong(of, format!("mode {mode:o} is outside 1 to 777"));
                }
                if !taken.insert(path) {
                    return wrong(of, format!("two are mounted at {path}"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Artifact, Container, Image, Spec, Tmpfs};
    use super::*;
    use crate::model::{Digest, Resources, Value};

    const SIZE: Resources = Resources { memory: 64 << 20, cpu: 100 };

    fn used(kind: ValueKind, name: &str, to: Target) -> ValueUse {
        ValueUse { kind, name: name.parse().unwrap(), to }
    }

    fn env(variable: &str) -> Target {
        Target::Env(variable.into())
    }

    fn file(path: &str) -> Target {
        Target::File { path: path.into(), mode: 0o400, uid: None, gid: None }
    }

    fn container(values: Vec<ValueUse>) -> Result<Spec, InvalidSpec> {
        let mut container = Container::of("main", Image::named("db:1"));
        container.env.insert("PORT".into(), "1".into());
        container.tmpfs.push(Tmpfs { path: "/tmp".into(), size: None, exec: false });
        let mut form = SpecForm::container_service("shop/db".parse().unwrap(), container, 1, SIZE);
        form.later.values = values;
        form.try_into()
    }

    /// They are signed with the spec, are read back as they were, and are part of what runs.
    #[test]
    fn values_travel_with_the_spec_and_replace_replicas() {
        let secret = used(ValueKind::Secret, "pw", file("/run/secrets/pw"));
        let spec = container(vec![secret.clone()]).unwrap();
        let value = Value::workload(&spec);
        assert!(matches!(&value, Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(spec.clone()));
        let plain = container(Vec::new()).unwrap();
        assert_ne!(spec.revision(), plain.revision());
        assert_ne!(spec.revision_with(Some(Digest([1; 32]))), spec.revision());
        assert_eq!(plain.revision_with(None), plain.revision());
        assert_eq!(secret.key(&spec.name.namespace), Key::Secret("shop/pw".parse().unwrap()));
    }

    #[test]
    fn values_that_cannot_be_given_are_refused_by_name() {
        let secret = |to| used(ValueKind::Secret, "pw", to);
        let deep = Target::File { path: "/pw".into(), mode: 0o7777, uid: None, gid: None };
        for (values, part) in [
            (vec![secret(file("/a")), used(ValueKind::Config, "b", file("/a"))], "two are mounted"),
            (vec![secret(file("/tmp"))], "two are mounted"),
            (vec![secret(file("run/pw"))], "no absolute path"),
            (vec![secret(file("/a:b"))], "no absolute path"),
            (vec![secret(file("/a/../b"))], "no absolute path"),
            (vec![secret(deep)], "mode"),
            (vec![secret(env("PORT"))], "set twice"),
            (vec![secret(env("A")), used(ValueKind::Config, "b", env("A"))], "set twice"),
            (vec![secret(env("1A"))], "not a variable name"),
            (vec![secret(env("SHOAL_NODE"))], "reserved"),
            (vec![secret(env("A")); MAX_USES + 1], "at most"),
        ] {
            let error = container(values).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn component_gets_variables_only() {
        let artifact = Artifact { digest: Digest([7; 32]), size: 10 };
        let name = || "web".parse().unwrap();
        let with = |to| {
            let mut form = SpecForm::wasm_service(name(), artifact, 1, SIZE);
            form.later.values = vec![used(ValueKind::Secret, "pw", to)];
            Spec::try_from(form)
        };
        with(env("PW")).unwrap();
        assert!(with(file("/pw")).unwrap_err().to_string().contains("pw:env=NAME"));
    }
}
