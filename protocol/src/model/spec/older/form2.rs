//! Form 2: no pieces of layers, no standard input, no terminal. It is still written where it has
//! all of a spec.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::super::codec::{self, Malformed};
use super::super::super::id::Digest;
use super::super::super::name::WorkloadName;
use super::super::super::resources::Resources;
use super::super::{
    Artifact, Component, Container, Exposure, Health, Image, InvalidSpec, Kind, Mount, NetworkMode,
    Placement, PlatformImage, Privileges, Program, PullPolicy, Requirements, RestartPolicy, Spec,
    SpecForm, Tmpfs, Ulimit, UpdatePolicy, Volume,
};

#[derive(Serialize, Deserialize)]
struct Form2 {
    name: WorkloadName,
    program: Program2,
    kind: Kind,
    resources: Requirements,
    placement: Placement,
    health: Health,
    update: UpdatePolicy,
    restart: RestartPolicy,
    exposure: Exposure,
    storage: Vec<Volume>,
}

#[derive(Serialize, Deserialize)]
enum Program2 {
    Wasm(Component),
    Containers(Vec<Container2>),
}

#[derive(Serialize, Deserialize)]
struct Container2 {
    name: String,
    image: Image2,
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    env: BTreeMap<String, String>,
    user: Option<String>,
    workdir: Option<String>,
    hostname: Option<String>,
    labels: BTreeMap<String, String>,
    network: NetworkMode,
    http: Option<u16>,
    mounts: Vec<Mount>,
    tmpfs: Vec<Tmpfs>,
    read_only: bool,
    init: bool,
    stop_signal: Option<String>,
    stop_grace: Option<Duration>,
    shm_size: Option<u64>,
    ulimits: BTreeMap<String, Ulimit>,
    sysctls: BTreeMap<String, String>,
    privileges: Privileges,
    limit: Option<Resources>,
}

#[derive(Serialize, Deserialize)]
struct Image2 {
    reference: String,
    digest: Option<Digest>,
    pull: PullPolicy,
    platforms: Vec<PlatformImage2>,
}

#[derive(Serialize, Deserialize)]
struct PlatformImage2 {
    arch: String,
    config: Artifact,
    layers: Vec<Artifact>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Spec, Malformed> {
    let Form2 {
        name,
        program,
        kind,
        resources,
        placement,
        health,
        update,
        restart,
        exposure,
        storage,
    } = codec::decode(bytes)?;
    let program = match program {
        Program2::Wasm(component) => Program::Wasm(component),
        Program2::Containers(all) => {
            Program::Containers(all.into_iter().map(Container::from).collect())
        }
    };
    let form = SpecForm {
        name,
        program,
        kind,
        resources,
        placement,
        health,
        update,
        restart,
        exposure,
        storage,
    };
    form.try_into().map_err(|invalid: InvalidSpec| Malformed(invalid.to_string()))
}

/// The spec in this form, none if the form has no place for all of it.
pub(super) fn encode(spec: &Spec) -> Option<Vec<u8>> {
    let SpecForm {
        name,
        program,
        kind,
        resources,
        placement,
        health,
        update,
        restart,
        exposure,
        storage,
    } = (**spec).clone();
    let program = match program {
        Program::Containers(all) if all.iter().any(needs_newer) => return None,
        program => older(program),
    };
    Some(codec::encode(&Form2 {
        name,
        program,
        kind,
        resources,
        placement,
        health,
        update,
        restart,
        exposure,
        storage,
    }))
}

impl From<Container2> for Container {
    fn from(it: Container2) -> Container {
        let Image2 { reference, digest, pull, platforms } = it.image;
        let platforms = platforms.into_iter().map(|PlatformImage2 { arch, config, layers }| {
            PlatformImage { arch, config, layers, pieces: None }
        });
        Container {
            name: it.name,
            image: Image { reference, digest, pull, platforms: platforms.collect() },
            entrypoint: it.entrypoint,
            command: it.command,
            env: it.env,
            user: it.user,
            workdir: it.workdir,
            hostname: it.hostname,
            labels: it.labels,
            network: it.network,
            http: it.http,
            mounts: it.mounts,
            tmpfs: it.tmpfs,
            read_only: it.read_only,
            init: it.init,
            stop_signal: it.stop_signal,
            stop_grace: it.stop_grace,
            shm_size: it.shm_size,
            ulimits: it.ulimits,
            sysctls: it.sysctls,
            privileges: it.privileges,
            limit: it.limit,
            stdin: false,
            tty: false,
        }
    }
}

/// The bytes of a program for its revision, which an upgrade of shoal must not change: running
/// replicas would all be replaced. Pieces are a way to carry an image, and no part of it.
pub(super) fn revision_bytes(program: &Program) -> Vec<u8> {
    let mut bytes = codec::encode(&older(program.clone()));
    if let Program::Containers(all) = program {
        let inputs: Vec<(bool, bool)> = all.iter().map(|it| (it.stdin, it.tty)).collect();
        if inputs.iter().any(|(stdin, tty)| *stdin || *tty) {
            bytes.extend(codec::encode(&inputs));
        }
    }
    bytes
}

fn needs_newer(container: &Container) -> bool {
    let has_pieces = container.image.platforms.iter().any(|it| it.pieces.is_some());
    has_pieces || container.stdin || container.tty
}

fn older(program: Program) -> Program2 {
    match program {
        Program::Wasm(component) => Program2::Wasm(component),
        Program::Containers(all) => {
            Program2::Containers(all.into_iter().map(older_container).collect())
        }
    }
}

fn older_container(container: Container) -> Container2 {
    let Image { reference, digest, pull, platforms } = container.image;
    let platforms =
        platforms.into_iter().map(|PlatformImage { arch, config, layers, pieces: _ }| {
            PlatformImage2 { arch, config, layers }
        });
    Container2 {
        name: container.name,
        image: Image2 { reference, digest, pull, platforms: platforms.collect() },
        entrypoint: container.entrypoint,
        command: container.command,
        env: container.env,
        user: container.user,
        workdir: container.workdir,
        hostname: container.hostname,
        labels: container.labels,
        network: container.network,
        http: container.http,
        mounts: container.mounts,
        tmpfs: container.tmpfs,
        read_only: container.read_only,
        init: container.init,
        stop_signal: container.stop_signal,
        stop_grace: container.stop_grace,
        shm_size: container.shm_size,
        ulimits: container.ulimits,
        sysctls: container.sysctls,
        privileges: container.privileges,
        limit: container.limit,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::id::Digest;
    use super::*;

    fn spec(change: impl FnOnce(&mut Container)) -> Spec {
        let part = |n: u8| Artifact { digest: Digest([n; 32]), size: 2 << 20 };
        let platform = PlatformImage {
            arch: "x86_64".into(),
            config: part(1),
            layers: vec![part(2)],
            pieces: None,
        };
        let image = Image { platforms: vec![platform], ..Image::named("redis:7") };
        let mut container = Container::of("db", image);
        container.http = Some(8080);
        change(&mut container);
        let resources = Resources { memory: 64 << 20, cpu: 100 };
        SpecForm::container_service("db".parse().unwrap(), container, 2, resources)
            .try_into()
            .unwrap()
    }

    /// A node of the program before must run what it can, and refuse the rest by its form.
    #[test]
    fn specs_are_written_in_the_oldest_form_that_has_all_of_them() {
        let old = spec(|_| {});
        let (version, bytes) = super::super::encode(&old);
        assert_eq!(version, 2);
        assert_eq!(super::super::decode(version, &bytes).unwrap(), old);
        let pieces = Artifact { digest: Digest([9; 32]), size: 4 * 32 };
        let new = spec(|it| it.image.platforms[0].pieces = Some(pieces));
        let (version, bytes) = super::super::encode(&new);
        assert_eq!(version, 3);
        assert_eq!(super::super::decode(version, &bytes).unwrap(), new);
    }

    /// A new revision replaces every running replica.
    #[test]
    fn pieces_are_no_new_revision() {
        let pieces = Artifact { digest: Digest([9; 32]), size: 4 * 32 };
        let base = spec(|_| {});
        let text = base.revision().to_string();
        assert_eq!(text, "b1999290dd3a5f9d28c847a0689c2679c7ef09f8f1b3714864cf6afc84dbf47d");
        let with_pieces = spec(|it| it.image.platforms[0].pieces = Some(pieces));
        assert_eq!(with_pieces.revision(), base.revision());
    }
}
