//! Names that a service has of its own: lines of its `/etc/hosts`, its name servers, and the names
//! at which others reach it.

use std::net::IpAddr;

use shoal_protocol::model::Label;
use shoal_protocol::model::spec::{self, ExtraHost};

use super::super::tree::{Problem, Tree};
use super::service::Service;
use super::values;
use crate::publish::container as options;

impl Service<'_> {
    /// Names with addresses: a list of `NAME:ADDRESS`, or a mapping with one address or several.
    pub fn extra_hosts(&mut self) -> Vec<ExtraHost> {
        let Some(tree) = self.find("extra_hosts") else { return Vec::new() };
        let Some(entries) = tree.as_map() else { return self.list("extra_hosts", str::parse) };
        let mut all = Vec::new();
        for entry in entries {
            let field = format!("extra_hosts.{}", entry.key);
            let addresses = match values::texts(&entry.value) {
                Ok(addresses) => addresses,
                Err(why) => {
                    self.refuse(entry.at, &field, why);
                    continue;
                }
            };
            for (at, text) in addresses {
                match text.parse() {
                    Ok(address) => all.push(ExtraHost { name: entry.key.clone(), address }),
                    Err(why) => self.refuse(at, &field, why),
                }
            }
        }
        all
    }

    /// Name servers of its own.
    pub fn dns(&mut self) -> Vec<IpAddr> {
        let all = self.list("dns", options::server);
        if let Some(tree) = self.find("dns").filter(|_| !all.is_empty()) {
            let why = "these servers alone are asked: it does not find other services by name";
            self.degrade(tree.at, "dns", why);
        }
        all
    }

    /// Further names: of its container, and in its networks. A component has none.
    pub fn aliases(&mut self, is_component: bool) -> Vec<String> {
        // Nobody reaches one without a network.
        if self.find("network_mode").and_then(Tree::as_text) == Some("none") {
            return Vec::new();
        }
        let own = self.shared.names.get(self.name).map(Label::to_string).unwrap_or_default();
        let named = self.find("container_name").map(|tree| ("container_name".to_owned(), tree));
        let networks = self.find("networks").and_then(Tree::as_map).unwrap_or_default();
        let of_networks = networks.iter().filter_map(|network| {
            let field = format!("networks.{}.aliases", network.key);
            Some((field, network.value.get("aliases").filter(|it| !it.is_null())?))
        });
        // A name that no workload can have still leads to it.
        let mut all = Vec::from_iter(Some(self.name.to_ascii_lowercase()));
        all.retain(|name| *name != own && spec::is_alias(name) && !is_component);
        if !is_component {
            self.linked(&own, &mut all);
        }
        for (field, tree) in named.into_iter().chain(of_networks) {
            let texts = match values::texts(tree) {
                Ok(texts) => texts,
                Err(why) => {
                    self.refuse(tree.at, &field, why);
                    continue;
                }
            };
            for (at, text) in texts {
                // Names are looked up without regard to case.
                let name = text.to_ascii_lowercase();
                if name == own || all.contains(&name) {
                    continue;
                }
                if is_component {
                    let why = format!("a component has one name: others reach it as `{own}`");
                    self.degrade(at, &field, why);
                } else if spec::is_alias(&name) {
                    all.push(name);
                } else if !name.is_empty() {
                    let why = format!("`{text}` leads nowhere: a name of one part is expected");
                    match field == "container_name" {
                        true => self.degrade(at, &field, why),
                        false => self.refuse(at, &field, why),
                    }
                }
            }
        }
        all
    }

    /// Adds the names at which other services link to this one.
    fn linked(&mut self, own: &str, all: &mut Vec<String>) {
        let services = self.shared.tree.get("services").and_then(Tree::as_map);
        for other in services.unwrap_or_default() {
            let links = other.value.get("links").and_then(Tree::as_list).unwrap_or_default();
            for (index, link) in links.iter().enumerate() {
                let text = link.as_text().unwrap_or_default();
                let Some((name, alias)) = text.split_once(':') else { continue };
                let alias = alias.to_ascii_lowercase();
                let is_new = alias != own && !all.contains(&alias);
                if name != self.name || !is_new || !spec::is_alias(&alias) {
                    continue;
                }
                if self.shared.names.values().any(|label| label.as_str() == alias) {
                    let why = format!(
                        "`{alias}` is another service, which all others reach by that name"
                    );
                    let field = format!("services.{}.links[{index}]", other.key);
                    self.judged.refuse(Problem::new(link.at, why).field(field));
                    continue;
                }
                all.push(alias);
            }
        }
    }
}
