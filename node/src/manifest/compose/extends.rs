//! `extends`: a service laid over another one, of the same file or of another.

use std::path::Path;

use super::super::tree::{Entry, Tree, Value};
use super::merge::merge;
use super::project::{Loader, MAX_DEPTH, Stack, Vars, folder_of};

impl Loader<'_> {
    /// The services of a document, each with what it extends.
    pub(super) fn extended(
        &mut self,
        services: Option<Tree>,
        below: Option<&Tree>,
        file: &Path,
        vars: &Vars,
        stack: &mut Stack,
    ) -> Option<Tree> {
        let mut services = services?;
        let all = services.clone();
        let Value::Map(entries) = &mut services.value else { return Some(services) };
        for Entry { key, value, .. } in entries {
            if value.get("extends").is_some() {
                stack.push((file.to_owned(), key.clone()));
                *value = self.extend(key, value.clone(), (&all, below), vars, stack);
                stack.pop();
            }
        }
        Some(services)
    }

    /// A service laid over the one that it extends.
    fn extend(
        &mut self,
        name: &str,
        mut service: Tree,
        (all, below): (&Tree, Option<&Tree>),
        vars: &Vars,
        stack: &mut Stack,
    ) -> Tree {
        let Some(extends) = service.entry("extends").cloned() else { return service };
        service.remove("extends");
        let (at, field) = (extends.at, format!("services.{name}.extends"));
        let target = match extends.value.as_text() {
            Some(text) => Some(text),
            None => extends.value.get("service").and_then(Tree::as_text),
        };
        let Some(target) = target.map(str::to_owned) else {
            self.refuse(at, &field, "the name of a service is missing: extends: { service: base }");
            return service;
        };
        let here = stack.last().map(|(file, _)| file.clone()).unwrap_or_default();
        let other = extends.value.get("file").and_then(|it| Some((it.at, it.as_text()?)));
        let file = other.map_or(here, |(at, path)| self.files.path(at, path));
        let key = (file.clone(), target.clone());
        if stack.contains(&key) || stack.len() > MAX_DEPTH {
            self.refuse(at, &field, format!("`{target}` extends this service in turn"));
            return service;
        }
        stack.push(key);
        let mut was_read = true;
        let base = match other {
            None => {
                let in_below = || below?.at_path(&["services", &target]).cloned();
                let base = all.get(&target).cloned().or_else(in_below);
                base.map(|base| self.extend(&target, base, (all, below), vars, stack))
            }
            Some(_) => {
                let merged = self.file_of_extended(&file, vars);
                was_read = merged.is_some();
                let services = merged.as_ref().and_then(|it| it.get("services"));
                let found = services.and_then(|it| Some((it.clone(), it.get(&target)?.clone())));
                found.map(|(all, base)| self.extend(&target, base, (&all, None), vars, stack))
            }
        };
        stack.pop();
        let Some(base) = base else {
            // A file that cannot be read was refused.
            if !was_read {
                return service;
            }
            let why = match other {
                Some(_) => format!("there is no service `{target}` in {}", file.display()),
                None => format!("there is no service `{target}`"),
            };
            self.refuse(at, &field, why);
            return service;
        };
        match self.has_room(&base) {
            true => merge(&["services", name], Some(base), service.clone()).unwrap_or(service),
            false => service,
        }
    }

    fn file_of_extended(&mut self, file: &Path, vars: &Vars) -> Option<Tree> {
        let key = (file.to_owned(), vars.id);
        if let Some(tree) = self.extended.get(&key) {
            return tree.clone();
        }
        let mut merged = None;
        for document in self.documents(file, &folder_of(file), vars, &Vec::new()) {
            merged = merge(&[], merged, document);
        }
        self.extended.insert(key, merged.clone());
        merged
    }
}
