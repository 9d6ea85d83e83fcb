//! Services, Ingresses, and ports of the device.

use super::*;

const PORTS: &str = "ports: [{ name: http, containerPort: 8080 }, { containerPort: 9090 }]";

fn service(spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\nspec:\n{}",
        indented(spec, 2)
    )
}

fn ingress(backend: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{ name: web }}\nspec:\n  \
         rules:\n  - host: web.example\n    http:\n      paths:\n      - path: /\n        \
         pathType: Prefix\n        backend: {{ service: {backend} }}\n"
    )
}

/// The lines about ports of the workload that these objects select.
fn ports(objects: &str) -> Vec<String> {
    let all = manifests(&format!("{}{objects}", deployment("", PORTS)));
    let about = |line: &&str| ["port:", "ports:", "exposed:"].iter().any(|it| line.starts_with(it));
    all.lines().filter(about).map(str::to_owned).collect()
}

#[test]
fn services_name_ports_of_their_workloads() {
    let app = "selector: { app: web }\n";
    for (spec, wanted) in [
        ("ports: [{ port: 80, targetPort: http }]", vec!["port: 8080", "exposed: [9090]"]),
        ("ports: [{ port: 8080 }]", vec!["port: 8080", "exposed: [9090]"]),
        ("ports: [{ port: 8080, targetPort: 0 }]", vec!["port: 8080", "exposed: [9090]"]),
        ("ports: [{ port: 80, targetPort: 081 }]", vec!["port: 81", "exposed: [8080, 9090]"]),
        (
            "type: NodePort\nports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]",
            vec!["port: 8080", "exposed: [9090]", "ports: [\"30080:8080\"]"],
        ),
        (
            "type: LoadBalancer\nports: [{ port: 53, targetPort: 5353, protocol: UDP }]",
            vec!["exposed: [8080, 9090]", "ports: [\"53:5353/udp\"]"],
        ),
        ("clusterIP: None\nports: [{ port: 9090 }]", vec!["port: 9090", "exposed: [8080]"]),
    ] {
        assert_eq!(ports(&service(&format!("{app}{spec}"))), wanted, "{spec}");
    }
    assert_eq!(ports(""), ["exposed: [8080, 9090]"]);
}

#[test]
fn ingress_leads_requests_to_a_port() {
    let two = "selector: { app: web }\nports: [{ name: metrics, port: 9090 }, { name: http, port: \
         80, targetPort: http }]";
    let service = service(two);
    for backend in ["{ name: web, port: { number: 80 } }", "{ name: web, port: { name: http } }"] {
        let all = format!("{service}{}", ingress(backend));
        assert_eq!(ports(&all), ["port: 8080", "exposed: [9090]"], "{backend}");
    }
    for (backend, wanted) in [
        (
            "{ name: web, port: { number: 81 } }",
            "Service `web` has no such port | It has 9090, 80.",
        ),
        ("{ name: wep, port: { number: 80 } }", "no Service `wep` in these files | Did you mean"),
    ] {
        let told = refusal(&format!("{}{service}{}", deployment("", PORTS), ingress(backend)));
        assert!(told.len() == 1 && told[0].contains(wanted), "{told:?}");
    }
    let all = format!(
        "{}{service}{}",
        deployment("", PORTS),
        ingress("{ name: web, port: { number: 80 } }")
    );
    let told = degraded(&all);
    assert!(
        told.contains(
            &"Ingress/web: spec.rules[0].host: not looked at: the workload answers as \
                         `NAME.localhost` on every node"
                .to_owned()
        ),
        "{told:?}"
    );
}

#[test]
fn what_a_service_cannot_mean_is_told() {
    let app = "selector: { app: web }\n";
    for (spec, wanted) in [
        (
            "selector: { app: wep }\nports: [{ port: 80 }]".to_owned(),
            "no workload of these files has the labels app=wep | Deployment/web has app=web.",
        ),
        (format!("{app}ports: [{{ port: 80, targetPort: htp }}]"), "no port of the container is"),
        (format!("{app}ports: [{{ port: 80, targetPort: \"80\" }}]"), "In quotes it is a name"),
        (format!("{app}ports: [{{ port: 80, protocol: SCTP }}]"), "`SCTP`: `TCP` and `UDP`"),
        (format!("{app}externalIPs: [1.2.3.4]\nports: [{{ port: 80 }}]"), "write the port as a"),
        ("type: ExternalName\nexternalName: db.example".into(), "write the outer name into"),
        ("ports: [{ port: 80 }]".into(), "without a selector nothing leads to a workload"),
    ] {
        let told = refusal(&format!("{}{}", deployment("", PORTS), service(&spec)));
        assert!(told.len() == 1 && told[0].contains(wanted), "{spec}: {told:?}");
    }
    for (spec, wanted) in [
        (
            format!("{app}ports: [{{ port: 81, targetPort: 8080 }}]"),
            "Service/web: spec.ports[0].port: port 81 is not led to 8080: the name has port \
             8080, so write `web:8080` where it is used",
        ),
        (
            format!("{app}type: NodePort\nports: [{{ port: 8080 }}]"),
            "Service/web: spec.ports[0]: no `nodePort` is named, and none is chosen: every node \
             answers HTTP as `NAME.localhost`",
        ),
    ] {
        let told = degraded(&format!("{}{}", deployment("", PORTS), service(&spec)));
        assert_eq!(told, [wanted]);
    }
    let alone = service("selector: { app: web }\nports: [{ port: 80 }]");
    assert_eq!(
        degraded(&alone),
        ["Service/web: spec.selector: no workload of these files has the labels app=web: takes \
          effect with networking"]
    );
}

#[test]
fn host_ports_are_ports_of_the_device() {
    let container = "ports: [{ containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1 }]";
    assert_eq!(more("", container), ["ports: [\"127.0.0.1:8080:80\"]"]);
}

#[test]
fn scaling_follows_both_versions() {
    let scaler = |spec: &str| {
        let target = "scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: web }\n";
        let asked = "resources: { requests: { cpu: 200m, memory: 100Mi } }";
        format!(
            "{}---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\n\
             metadata: {{ name: web }}\nspec:\n{}",
            deployment("", asked),
            indented(&format!("{target}{spec}"), 2)
        )
    };
    let metric = |name: &str, target: &str| {
        format!("{{ type: Resource, resource: {{ name: {name}, target: {target} }} }}")
    };
    let both = format!(
        "maxReplicas: 5\nminReplicas: 2\nmetrics: [{}, {}]\nbehavior: {{ scaleDown: {{ \
         stabilizationWindowSeconds: 60 }} }}",
        metric("cpu", "{ type: Utilization, averageUtilization: 70 }"),
        metric("memory", "{ type: AverageValue, averageValue: 80Mi }")
    );
    for (spec, wanted) in [
        ("maxReplicas: 5", "autoscale:\n  min: 1\n  max: 5\n  cpu: 80\n"),
        (both.as_str(), "autoscale:\n  min: 2\n  max: 5\n  cpu: 70\n  memory: 80\n  down: 60s\n"),
    ] {
        let all = manifests(&scaler(spec));
        assert!(all.contains(wanted), "{all}");
    }
    assert!(manifests(&scaler(&both)).contains("replicas: 2\n"), "the fewest");
    for (spec, wanted) in [
        ("minReplicas: 2".to_owned(), "spec.maxReplicas: it is missing"),
        (
            "maxReplicas: 5\nmetrics: [{ type: Pods, pods: { metric: { name: a } } }]".into(),
            "CPU and memory are measured here",
        ),
        ("maxReplicas: 0".into(), "autoscale: max: 0 is outside"),
    ] {
        let told = refusal(&scaler(&spec));
        assert!(told.len() == 1 && told[0].contains(wanted), "{spec}: {told:?}");
    }
    let other = scaler("maxReplicas: 5").replace("Deployment, name: web", "Deployment, name: wep");
    assert!(refusal(&other)[0].contains("Deployment/wep is not in these files | Did you mean"));
}

#[test]
fn budgets_and_namespaces_are_taken() {
    let more = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: { name: web }\n\
        spec: { minAvailable: 1, selector: { matchLabels: { app: web } } }\nstatus: { \
        currentHealthy: 0 }\n---\napiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n";
    let text = format!("{}{more}", deployment("", ""));
    assert_eq!(degraded(&text), [""; 0]);
    assert_eq!(manifests(&text), manifests(&deployment("", "")));
}

/// Clients know the Service, not the workload.
#[test]
fn service_of_another_name_is_a_further_name_of_its_workload() {
    let service = |name: &str, more: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec:\n  \
             selector: {{ app: web }}\n  ports: [{{ port: 8080 }}]\n{more}"
        )
    };
    let of = |services: &[String]| {
        let all = format!("{}{}", deployment("", PORTS), services.concat());
        (manifests(&all).lines().find(|it| it.starts_with("aliases")).map(str::to_owned), all)
    };
    let both = [service("front", ""), service("peers", "  clusterIP: None\n")];
    assert_eq!(of(&both).0.as_deref(), Some("aliases: [front, peers]"));
    assert_eq!(of(&[service("web", "")]).0, None, "it has that name");
    let other = deployment("", PORTS).replace("name: web", "name: other");
    let (_, all) = of(&both[..1]);
    let told = degraded(&format!("{all}---\n{other}"));
    let alone = "Service/front: metadata.name: `front` leads to `other` alone, the first of the 2 \
                 workloads that it selects";
    assert!(told.iter().any(|it| it == alone), "{told:?}");
}
