//! Older forms of a spec, as operators signed them: they stay in desired state until the workload
//! is published again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::super::name::WorkloadName;
use super::super::resources::Resources;
use super::{Artifact, InvalidSpec, SPEC_VERSION, Spec, SpecForm, later};

/// Form 1: a service of a component with the `wasi:http/proxy` world.
#[derive(Serialize, Deserialize)]
struct Form1 {
    name: WorkloadName,
    runtime: Runtime1,
    artifact: Artifact,
    replicas: u32,
    resources: Resources,
    env: BTreeMap<String, String>,
    require: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
enum Runtime1 {
    Wasm,
}

/// The spec in bytes of the form `version`.
///
/// # Errors
/// The form is newer than this program, the spec uses what this program does not support, or the
/// bytes are no spec: which of the three it is, only a newer program can tell.
pub(in crate::model) fn decode(version: u16, bytes: &[u8]) -> Result<Spec, Malformed> {
    match version {
        1 => {
            form1(bytes)?.try_into().map_err(|invalid: InvalidSpec| Malformed(invalid.to_string()))
        }
        2 => match codec::decode::<Spec>(bytes)? {
            spec if spec.placement.is_plain() && spec.program.containers().len() < 2 => Ok(spec),
            // No program has ever written it, and those of form 2 do not act on it.
            _ => Err(Malformed(
                "form 2 has labels that are required and one container, and no more".into(),
            )),
        },
        SPEC_VERSION => later::decode(bytes),
        _ => Err(Malformed(format!("form {version} is not known"))),
    }
}

fn form1(bytes: &[u8]) -> Result<SpecForm, Malformed> {
    let Form1 { name, runtime: Runtime1::Wasm, artifact, replicas, resources, env, require } =
        codec::decode(bytes)?;
    let mut form = SpecForm::wasm_service(name, artifact, replicas, resources).with_env(env);
    form.placement.require = require;
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::super::super::id::Digest;
    use super::*;

    /// A change that an operator signed years ago still runs what it ran.
    #[test]
    fn spec_of_form_1_is_read() {
        let bytes = codec::encode(&Form1 {
            name: "shop/web".parse().unwrap(),
            runtime: Runtime1::Wasm,
            artifact: Artifact { digest: Digest([3; 32]), size: 9 },
            replicas: 4,
            resources: Resources { memory: 64 << 20, cpu: 250 },
            env: [("A".into(), "b".into())].into(),
            require: [("zone".into(), "front".into())].into(),
        });
        let spec = decode(1, &bytes).unwrap();
        assert_eq!(spec.name.to_string(), "shop/web");
        assert_eq!((spec.replicas(), spec.reservation().cpu), (4, 250));
        assert_eq!(spec.env()["A"], "b");
        assert_eq!(spec.placement.require["zone"], "front");
        assert!(decode(2, &bytes).is_err());
        assert!(decode(3, &bytes).is_err());
        assert!(decode(4, &bytes).is_err(), "of a newer program");
    }
}
