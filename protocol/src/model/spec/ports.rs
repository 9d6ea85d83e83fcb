//! The TCP ports at which other workloads reach a workload by its name.

use std::collections::BTreeMap;

use super::{Program, SpecForm, World};

/// The port of HTTP where a workload does not listen on it itself.
const HTTP: u16 = 80;

impl SpecForm {
    /// The ports, each with the port of the replica that it leads to: those that the workload
    /// names, and 80 for the one that answers HTTP. A component answers on 80 alone.
    pub fn ports(&self) -> BTreeMap<u16, u16> {
        if let Program::Wasm(component) = &self.program
            && component.world == World::Http
        {
            return BTreeMap::from([(HTTP, HTTP)]);
        }
        let containers = self.program.containers();
        let tcp = self.exposure.ports.iter().filter(|port| !port.udp).map(|port| port.replica);
        let http: Vec<u16> = containers.iter().filter_map(|container| container.http).collect();
        let exposed = self.later.exposed.iter().copied();
        let named = tcp.chain(http.iter().copied()).chain(exposed);
        let mut ports: BTreeMap<_, _> = named.map(|port| (port, port)).collect();
        if let Some(http) = http.first() {
            ports.entry(HTTP).or_insert(*http);
        }
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Image, Port};
    use super::*;
    use crate::model::{Artifact, Digest, Resources};

    #[test]
    fn http_is_on_port_80_unless_that_is_taken() {
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let artifact = Artifact { digest: Digest([1; 32]), size: 1 };
        let component = SpecForm::wasm_service("a".parse().unwrap(), artifact, 1, size);
        assert_eq!(component.ports(), BTreeMap::from([(80, 80)]));
        let of = |http, ports: &[u16]| {
            let container = Container { http, ..Container::of("a", Image::named("a:1")) };
            let mut form = SpecForm::container_service("a".parse().unwrap(), container, 1, size);
            form.exposure.ports = ports
                .iter()
                .map(|&replica| Port { device: replica, replica, udp: false, address: None })
                .collect();
            form.ports()
        };
        assert_eq!(of(Some(8080), &[]), BTreeMap::from([(80, 8080), (8080, 8080)]));
        assert_eq!(of(Some(8080), &[80]), BTreeMap::from([(80, 80), (8080, 8080)]));
        assert_eq!(of(None, &[5432]), BTreeMap::from([(5432, 5432)]));
        assert_eq!(of(None, &[]), BTreeMap::new());
    }
}
