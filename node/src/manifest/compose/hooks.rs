//! The hooks of a service: commands in its container after its start and before its end.

use shoal_protocol::model::spec::{Hook, HookCommand};

use super::super::tree::Tree;
use super::service::Service;
use super::values;

/// Reads the hooks of a field; faults are noted.
pub(super) fn read(service: &mut Service<'_>, field: &str) -> Vec<Hook> {
    let Some(tree) = service.find(field) else { return Vec::new() };
    let Some(items) = tree.as_list() else {
        service.refuse(tree.at, field, "a list of commands is expected");
        return Vec::new();
    };
    let items: Vec<(usize, &Tree)> = items.iter().enumerate().collect();
    items.into_iter().filter_map(|(at, item)| one(service, item, field, at)).collect()
}

fn one(service: &mut Service<'_>, item: &Tree, list: &str, at: usize) -> Option<Hook> {
    let mut of = |name: &str, why: String| {
        let at_field = item.get(name).map_or(item.at, |it| it.at);
        service.refuse(at_field, &format!("{list}[{at}].{name}"), why);
    };
    let find = |name: &str| item.get(name).filter(|it| !it.is_null());
    let Some(command) = find("command") else {
        of("command", "it is missing".into());
        return None;
    };
    let command = values::words(command).map_err(|why| of("command", why)).ok()?;
    if find("privileged").is_some_and(|it| values::boolean(it) != Ok(false)) {
        let why = "a hook has the rights of its container: write `privileged` of the service";
        of("privileged", why.into());
    }
    let mut text = |name: &str| {
        let read = find(name).map(values::text)?;
        read.map_err(|why| of(name, why)).ok().filter(|it| !it.is_empty())
    };
    let (user, workdir) = (text("user"), text("working_dir"));
    let env = find("environment").map(|it| values::pairs("environment", it));
    let env = match env.transpose() {
        Ok(env) => env.unwrap_or_default(),
        Err(why) => {
            of("environment", why);
            Vec::new()
        }
    };
    let shell = &service.files.shell;
    let known = |it: values::Pair| {
        let value = it.value.or_else(|| shell.get(&it.name).cloned())?;
        Some((it.name, value))
    };
    let env = env.into_iter().filter_map(known).collect();
    Some(Hook::Exec(HookCommand { command, user, workdir, env }))
}
