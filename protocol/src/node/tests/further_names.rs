//! Further names of workloads.

use super::*;
use crate::model::spec::{Container, Image};
use crate::model::{ProgramKind, Resources};

#[test]
fn further_name_leads_to_the_workload_in_its_namespace() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.input(Input::Facts(Facts { runtimes: [ProgramKind::Container].into(), ..facts() }));
    let mut container = Container::of("main", Image::named("db:1"));
    container.extra.aliases = vec!["my_db".into(), "other".into()];
    let size = Resources { memory: 16 << 20, cpu: 100 };
    let form = SpecForm::container_service("web".parse().unwrap(), container, 1, size);
    let spec = Spec::try_from(form).unwrap();
    harness.publish(&cluster, &spec);
    let of = |namespace: &str, alias: &str| {
        let found = harness.node.aliased(&namespace.parse().unwrap(), alias);
        found.map(|service| service.name.to_string())
    };
    assert_eq!(of("default", "my_db").as_deref(), Some("web"));
    assert_eq!(of("default", "other").as_deref(), Some("web"));
    assert_eq!(of("default", "my-db"), None);
    assert_eq!(of("shop", "my_db"), None);
}
