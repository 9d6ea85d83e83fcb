//! `include`: other files with folders and variables of their own, below the file that names them.

use super::super::tree::{Entry, Position, Tree};
use super::merge::merge;
use super::project::{Loader, Stack, Vars, folder_of};

impl Loader<'_> {
    /// Lays the files of an `include` over what was read before.
    pub(super) fn include(
        &mut self,
        mut below: Option<Tree>,
        entry: &Entry,
        vars: &Vars,
        stack: &mut Stack,
    ) -> Option<Tree> {
        let Some(items) = entry.value.as_list() else {
            self.refuse(entry.value.at, "include", "a list of files is expected");
            return below;
        };
        for (index, item) in items.iter().enumerate() {
            let field = format!("include[{index}]");
            let texts = |tree: Option<&Tree>| -> Vec<(Position, String)> {
                let Some(tree) = tree else { return Vec::new() };
                let all = tree.as_list().map_or(std::slice::from_ref(tree), |items| items);
                let text = |it: &Tree| Some((it.at, it.as_text()?.to_owned()));
                all.iter().filter_map(text).collect()
            };
            let paths = match item.as_map() {
                Some(entries) => {
                    let known = ["path", "project_directory", "env_file"];
                    for entry in entries.iter().filter(|it| !known.contains(&it.key.as_str())) {
                        let why = format!("there is no such field; known are {}", known.join(", "));
                        self.refuse(entry.at, &format!("{field}.{}", entry.key), why);
                    }
                    texts(item.get("path"))
                }
                None => texts(Some(item)),
            };
            let Some((at, first)) = paths.first() else {
                self.refuse(item.at, &field, "the path of a file is missing");
                continue;
            };
            if first.contains("://") || first.starts_with("git@") {
                let why = format!("`{first}` is on another machine: fetch it, and name the file");
                self.refuse(*at, &field, why);
                continue;
            }
            let given = item.get("project_directory").and_then(Tree::as_text);
            let base = match given {
                Some(folder) => self.files.path(item.at, folder),
                None => folder_of(&self.files.path(*at, first)),
            };
            // The variables of the project come before those of the include.
            self.scopes += 1;
            let mut own = Vars { id: self.scopes, ..vars.clone() };
            let named = texts(item.get("env_file"));
            for (at, file) in &named {
                let file = self.files.path(*at, file);
                self.add_file_of_variables(&mut own, &file, &vars.all);
            }
            let standard = base.join(".env");
            if named.is_empty() && standard.is_file() {
                self.add_file_of_variables(&mut own, &standard, &vars.all);
            }
            let mut included = None;
            for (at, path) in &paths {
                let path = self.files.path(*at, path);
                included = self.layer(included, &path, &base, &own, stack);
            }
            if let Some(mut included) = included {
                included.remove("name");
                below = merge(&[], below, included);
            }
        }
        below
    }
}
