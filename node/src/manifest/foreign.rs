//! Hints for texts that are right in another tool: files of Compose and Kubernetes, and their forms
//! of single fields. **They look at a text only after it was refused**, so that they never decide
//! what is taken.

use super::ManifestError;

/// Fields of other tools, and how the same is written here.
const FIELDS: &[(&str, &str)] = &[
    ("environment", "Here it is:  env: { NAME: value }"),
    ("env_file", "The variables stand in the manifest itself:  env: { NAME: value }"),
    ("expose", "`port: 80` names the port at which it listens, and others reach it by its name."),
    ("stdin_open", "Here it is:  stdin: true"),
    ("container_name", "`name` is its name; leave this away."),
    ("restart", "shoal always starts it again; leave this away."),
    ("mem_limit", "Here it is:  limit: { memory: 128MiB }"),
    ("mem_reservation", "Here it is:  memory: 64MiB"),
    ("cpus", "Here it is:  limit: { cpu: 0.5 }"),
    ("readinessProbe", "Here it is:  health: { readiness: { http: { path: /ready } } }"),
    ("livenessProbe", "Here it is:  health: { liveness: { http: { path: /live } } }"),
    ("startupProbe", "Here it is:  health: { startup: { http: { path: /up }, failures: 30 } }"),
    ("deploy", "Here they are:  replicas: 2, memory: 64MiB, limit: { memory: 128MiB }"),
    ("parallelism", "Here it is:  parallel: 2"),
    ("backoffLimit", "Here it is:  retries: 3"),
    ("activeDeadlineSeconds", "Here it is:  deadline: 10m"),
    ("ttlSecondsAfterFinished", "Here it is:  keep: 1h"),
    ("timeZone", "Here it is:  timezone: Europe/Berlin"),
    ("concurrencyPolicy", "Here it is:  overlap: forbid"),
    ("startingDeadlineSeconds", "Here it is:  missed: skip, or once, or a number of runs"),
    ("working_dir", "Here it is:  workdir: /path"),
    ("workingDir", "Here it is:  workdir: /path"),
    ("network_mode", "Here it is:  network: none"),
    ("stop_grace_period", "Here it is:  stop_grace: 30s"),
    ("healthcheck", "Here it is:  health: { liveness: { exec: [redis-cli, ping], every: 30s } }"),
    ("update_config", "Here it is:  update: { parallel: 1, order: start-first }"),
    ("rollback_config", "Here it is:  update: { on-failure: roll-back }"),
    ("strategy", "Here it is:  update: { parallel: 1, order: start-first }"),
    ("minReadySeconds", "Here it is:  update: { min-ready: 10s }"),
    ("progressDeadlineSeconds", "Here it is:  update: { deadline: 10m }"),
    ("minReplicas", "Here it is:  autoscale: { min: 1, max: 10, cpu: 70 }"),
    ("maxReplicas", "Here it is:  autoscale: { min: 1, max: 10, cpu: 70 }"),
    ("scaleTargetRef", "It stands in the workload itself:  autoscale: { max: 10, cpu: 70 }"),
    ("depends_on", "Workloads do not wait for one another; leave this away."),
    ("imagePullPolicy", "Here it is:  pull: missing, or always, or never"),
    ("hostAliases", "Here it is:  extra_hosts: [\"db:10.0.0.5\"]"),
    ("dnsConfig", "Here it is:  dns: [1.1.1.1], dns_search: [example.org], dns_opt: [\"ndots:2\"]"),
    ("supplementalGroups", "Here it is:  group_add: [1001]"),
    ("nodeSelector", "Here it is:  require: { LABEL: value }"),
];

/// Fields whose value has another form in other tools, and their form here.
const FORMS: &[(&str, &str)] = &[
    ("env", "Its form is a map:  env: { NAME: value }"),
    (
        "require",
        "Its form is a map or a list:  require: { LABEL: value }, or [LABEL=value, \"!gpu\"]",
    ),
    ("labels", "Its form is a map:  labels: { NAME: value }"),
    ("sysctls", "Its form is a map:  sysctls: { net.core.somaxconn: \"1024\" }"),
    ("extra_hosts", "Its form is a list:  extra_hosts: [\"db:10.0.0.5\"]"),
    ("dns", "Its form is a list:  dns: [1.1.1.1]"),
    ("group_add", "Its form is a list:  group_add: [audio]"),
    ("ulimits", "A limit is a text, SOFT or SOFT:HARD:  ulimits: { nofile: \"1024:4096\" }"),
    ("tmpfs", "Its form is a list:  tmpfs: [\"/run:size=16MiB\"]"),
    ("cap_drop", "Its form is a list:  cap_drop: [ALL]"),
    ("command", "Its form is a list of words, or one text:  command: nginx -g 'daemon off;'"),
    ("entrypoint", "Its form is a list of words, or one text:  entrypoint: [sh, -c]"),
    ("port", "It is the container's port alone:  port: 80"),
    ("update", "Its form is:  update: { parallel: 1, on-failure: roll-back }"),
    ("autoscale", "Its form is:  autoscale: { min: 1, max: 10, cpu: 70 }"),
    (
        "resources",
        "Its form is:  resources: { camera: 1 }. Memory and CPU have keys of their own:  memory: \
         64MiB, cpu: 0.1, limit: { memory: 128MiB, cpu: 0.5 }",
    ),
    ("limit", "Its form is:  limit: { memory: 128MiB, cpu: 0.5 }"),
];

const OURS: &str = "The same as a manifest of shoal:\n  name: web\n  image: nginx:1.27\n  port: \
    80\n  replicas: 2\n  env: { NAME: value }\nSeveral stand in one file, divided by `---`.";

/// How a field of another tool is written here.
pub(super) fn field_here(field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(name, _)| *name == field).map(|(_, here)| *here)
}

/// The refusal in better words, where the text is of another tool, or its indentation is of tabs.
pub(super) fn better(text: &str, error: ManifestError) -> ManifestError {
    let error = match tool(text).or_else(|| tab(text)) {
        Some(better) => better,
        None => match error.line.and_then(|line| key_at(text, line)) {
            Some(key) if error.hint.is_none() => match FORMS.iter().find(|(it, _)| *it == key) {
                Some((_, form)) => with_field(key, error).hint(*form),
                None => error,
            },
            _ => error,
        },
    };
    let document = error.line.and_then(|line| document_at(text, line));
    ManifestError { document, ..error }
}

fn with_field(key: &str, error: ManifestError) -> ManifestError {
    if error.message.starts_with(&format!("{key}:")) {
        return error;
    }
    // The words of the parser about the form that it expects.
    let is_form = error.message.starts_with("expected ") || error.message.contains(" is expected");
    let message = match is_form {
        true => format!("{key}: it has another form here"),
        false => format!("{key}: {}", error.message),
    };
    ManifestError { message, ..error }
}

/// The file of another tool, by a key that only it has.
fn tool(text: &str) -> Option<ManifestError> {
    let line_of = |key: &str| {
        let at = text.lines().position(|line| line.starts_with(key))?;
        u64::try_from(at + 1).ok()
    };
    let (line, what) = match (line_of("apiVersion:"), line_of("services:")) {
        (Some(line), _) => (line, "a file of Kubernetes (`apiVersion`)"),
        (None, Some(line)) => (line, "a Compose file (`services`)"),
        (None, None) => return None,
    };
    let message = format!("this is {what}, and shoal reads only manifests of its own for now");
    Some(ManifestError::at(line, message).hint(OURS))
}

/// YAML takes no tabs for indentation, and its parser's words for that are hard to read.
fn tab(text: &str) -> Option<ManifestError> {
    let has_tab = |line: &str| line.chars().take_while(|c| " \t".contains(*c)).any(|c| c == '\t');
    let at = text.lines().position(has_tab)?;
    let line = u64::try_from(at + 1).ok()?;
    let message = "a tab indents this line, and YAML takes only spaces there";
    Some(ManifestError::at(line, message).hint("Write two spaces instead of each tab."))
}

/// The key without indentation that this line, counted from 1, belongs to.
fn key_at(text: &str, line: u64) -> Option<&str> {
    let upto = usize::try_from(line).ok()?;
    let lines: Vec<&str> = text.lines().take(upto).collect();
    let of_key = |line: &&&str| line.starts_with(|c: char| c.is_ascii_alphabetic());
    lines.iter().rev().find(of_key)?.split_once(':').map(|(key, _)| key.trim_end())
}

/// The number of the document in which this line is, counted from 1; none if there is only one.
pub(super) fn document_at(text: &str, line: u64) -> Option<usize> {
    let upto = usize::try_from(line).ok()?;
    let is_mark = |line: &&str| *line == "---" || line.starts_with("--- ");
    // A mark above the first field divides nothing.
    let has_begun = |line: &str| !line.trim().is_empty() && !line.starts_with(['#', '%']);
    let first = text.lines().position(|line| has_begun(line) && !is_mark(&line)).unwrap_or(0);
    let marks = |lines: usize| text.lines().take(lines).skip(first).filter(is_mark).count();
    (marks(usize::MAX) > 0).then(|| marks(upto) + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::ManifestError;

    fn refusal(text: &str) -> (String, String) {
        let error = parse(text, Path::new("/")).unwrap_err();
        let hint = error.hint.clone().unwrap_or_default();
        (ManifestError { column: None, ..error }.to_string(), hint)
    }

    /// The forms of people who come from Compose are answered with those of shoal.
    #[test]
    fn forms_of_other_tools_are_answered_with_ours() {
        for (field, start, form) in [
            (
                "environment: { A: b }",
                "line 3: unknown field `environment`",
                "env: { NAME: value }",
            ),
            ("env:\n  - A=b", "line 4: env: ", "env: { NAME: value }"),
            ("env: [A=b]", "line 3: env: ", "env: { NAME: value }"),
            (
                "ulimits:\n  nofile: { soft: 1, hard: 2 }",
                "line 4: ulimits: ",
                "nofile: \"1024:4096\"",
            ),
            ("ulimits:\n  nofile:\n    soft: 1", "line 5: ulimits: ", "nofile: \"1024:4096\""),
            ("expose: [80]", "line 3: unknown field `expose`", "`port: 80` names"),
            ("port: '8080:80'", "line 3: port: `8080:80` is more than a port", "port: 80"),
            ("working_dir: /a", "line 3: unknown field `working_dir`", "workdir: /path"),
            ("cap_drop: ALL", "line 3: cap_drop: ", "cap_drop: [ALL]"),
        ] {
            let (message, hint) = refusal(&format!("name: a\nimage: a:1\n{field}\n"));
            assert!(message.starts_with(start), "{message}");
            assert!(hint.contains(form), "{field}: {message}: {hint}");
        }
    }

    #[test]
    fn files_of_other_tools_are_recognised() {
        let (message, hint) = refusal("version: '3'\nservices:\n  web:\n    image: nginx\n");
        assert!(message.starts_with("line 2: this is a Compose file (`services`)"), "{message}");
        assert!(hint.contains("image: nginx:1.27"), "{hint}");
        let (message, _) = refusal("apiVersion: apps/v1\nkind: Deployment\nmetadata: {}\n");
        assert!(message.starts_with("line 1: this is a file of Kubernetes"), "{message}");
    }

    #[test]
    fn tab_is_named_with_its_line() {
        let (message, hint) = refusal("name: a\nimage: a:1\nenv:\n\tA: b\n");
        assert_eq!(message, "line 4: a tab indents this line, and YAML takes only spaces there");
        assert!(hint.contains("two spaces"), "{hint}");
    }

    /// A line number alone says little in a file of many documents.
    #[test]
    fn document_is_named_where_there_are_several() {
        let (message, _) = refusal("---\n# one\nname: a\nimage: a:1\n---\nname: b\nimages: b\n");
        assert_eq!(message, "document 2, line 7: unknown field `images`");
        let (message, _) = refusal("---\nname: a\nimages: a:1\n");
        assert_eq!(message, "line 3: unknown field `images`");
    }
}
