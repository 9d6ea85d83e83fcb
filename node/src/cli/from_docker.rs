//! Verbs and options of docker, and verbs of kubectl, that shoal has not, each with a sentence
//! about what shoal does instead. What means the same has the same name and is not here.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::CliError;

/// Options of docker, in their long and their short form, and what to do with shoal.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["-P", "--publish-all", "--expose"],
        "the ports that the image exposes are reached by other workloads as NAME:PORT already; for \
            HTTP from outside give the one port that answers it, as in --port 80",
    ),
    (
        &["--restart"],
        "shoal always starts a container again that has ended, after a pause that doubles, and on \
            another node when it fails too often",
    ),
    (
        &["--rm"],
        "shoal removes each container that has ended, and keeps its logs; `shoal rm NAME` removes \
            the workload",
    ),
    (
        &["-a", "--attach"],
        "a workload runs on any node, in the background; `shoal attach NAME` or `shoal logs -f \
            NAME` shows what it writes",
    ),
    (
        &["--detach-keys"],
        "`shoal attach` leaves it running with Ctrl-P Ctrl-Q, or Ctrl-C without a terminal",
    ),
    (
        &["--gpus"],
        "shoal gives containers no GPUs yet; --require K=V picks the nodes that have what it needs",
    ),
    (
        &["--link"],
        "containers reach every workload as NAME, or NAME.NAMESPACE, at the port that its --port \
            names; --network-alias is a further name, and --add-host one of an address",
    ),
    (&["-m"], "--memory SIZE reserves it, and is the most; --memory-limit SIZE is a greater most"),
    (
        &["--memory-reservation"],
        "--memory SIZE is what is reserved, and --memory-limit SIZE the most",
    ),
    (&["--memory-swap"], "a container's swap is off: its memory limit counts for both"),
    (&["-c", "--cpu-shares"], "--cpu CORES reserves it, and is its share while others compete"),
    (&["-l", "--label"], "--container-label K=V; --label of `shoal up` is a label of a node"),
    (&["--env-file"], "give each variable with --env K=V, or all of them as `env:` in a manifest"),
    (&["--platform"], "each node runs the image of its own processor"),
    (&["--stop-timeout"], "--stop-grace DURATION, as in --stop-grace 30s"),
    (
        &["--health-start-interval"],
        "a replica that starts is asked soon and often; --health-start-period is the time it has",
    ),
    (&["--log-driver", "--log-opt"], "`shoal logs NAME` has its lines, from whichever node"),
];

/// Options of other verbs, and what to do with shoal.
const OF_VERBS: &[(&str, &[&str], &str)] = &[
    (
        "cp",
        &["-a", "--archive"],
        "modes are always kept and owners never: files in a replica belong to root, and those that \
            come out to you. `shoal volume backup` and `restore` keep the owners of files",
    ),
    ("cp", &["-r", "-R", "--recursive"], "a folder is always copied with all that is in it"),
    (
        "attach",
        &["-i", "-t", "-it", "--interactive", "--tty"],
        "it passes on what you type if the workload was run with -i; `shoal exec -it NAME sh` is a \
            shell beside its program",
    ),
    ("cp", &["-L", "--follow-link"], "links are copied as links; name the file that is meant"),
    (
        "logs",
        &["--until"],
        "lines come in their order: leave it away and stop reading, or use head",
    ),
    ("logs", &["--details"], "`shoal describe NAME` shows labels and environment"),
    ("ps", &["-a", "--all"], "`shoal ps` always shows all workloads, also those that do not run"),
    ("exec", &["-d", "--detach"], "`shoal exec NAME sh -c 'COMMAND &'` leaves it running"),
    (
        "rm",
        &["-f", "-v", "--volumes"],
        "`shoal rm NAME` ends its replicas, too, and keeps their volumes; `shoal volume rm` \
            removes those",
    ),
];

/// Verbs of docker and kubectl, and what to do with shoal.
const VERBS: &[(&[&str], &str)] = &[
    (
        &["stop", "kill"],
        "`shoal scale NAME=0` ends its replicas and keeps the workload, and `shoal rm NAME` \
            removes it; `shoal exec NAME kill -HUP 1` sends a signal to its program",
    ),
    (
        &["start", "unpause", "create"],
        "`shoal run` starts a new workload, and `shoal scale NAME=1` one that was scaled to 0; \
            what ends by itself is started again",
    ),
    (
        &["hpa"],
        "`shoal autoscale NAME --max 10 --cpu 70` lets the number of replicas follow from their \
            load",
    ),
    (
        &["rollout"],
        "`shoal restart NAME` replaces all replicas of a workload, `shoal history NAME` lists its \
            versions, and `shoal rollback NAME` publishes an earlier one again; `shoal publish` \
            waits until the new one is healthy. `shoal pause NAME` holds an update, and `shoal \
            resume NAME` lets it go on",
    ),
    (
        &["inspect", "get", "top", "port"],
        "`shoal describe NAME` shows a workload, `shoal explain NAME` why it is where it is, \
            `shoal ps` all of them, `shoal nodes` the nodes, `shoal stats` what they use; \
            `-o json` is for programs",
    ),
    (
        &["build", "buildx"],
        "shoal builds no images: `docker build -t NAME .` or `podman build -t NAME .` on a node, \
            and then `shoal run --name NAME --port PORT NAME` there",
    ),
    (
        &["compose", "stack", "apply", "service"],
        "`shoal publish FILE` runs all workloads of a file, and `shoal publish --help` shows its \
            form",
    ),
    (
        &["images", "rmi", "load", "save", "tag"],
        "`shoal image ls` lists the images of all nodes, and `shoal image rm` and `prune` remove \
            them; `shoal run FILE.tar` runs a file of `docker save`",
    ),
    (
        &["pull", "push"],
        "`shoal run IMAGE` pulls it once and gives it to all nodes that need it; `shoal image push \
            IMAGE` keeps one of this node's engine for all nodes, without a registry",
    ),
    (
        &["login", "logout"],
        "`docker login` or `podman login` on a node: shoal uses the logins of its engine's user",
    ),
    (
        &["delete", "remove"],
        "`shoal rm NAME` removes a workload, and `shoal volume rm` what it has kept",
    ),
    (
        &["update", "edit", "patch", "set", "rename"],
        "`shoal run` or `publish` with the same NAME changes a workload, and says by which parts; \
            its name stays",
    ),
    (
        &["expose"],
        "`shoal run --port PORT` answers HTTP at every node, `--publish` is a port of one",
    ),
    (&["container", "pod", "pods"], "`shoal ps` lists workloads and replicas"),
    (
        &["network"],
        "every container reaches every workload by its name, as NAME or NAME.NAMESPACE: no network \
            is made for that",
    ),
    (
        &["system", "info", "version", "swarm"],
        "`shoal status` shows this node, `shoal nodes` all, `shoal --version` the program; `shoal \
            up --join` adds a device, and `shoal image prune` makes room",
    ),
    (&["help"], "`shoal --help` lists all verbs, and `shoal VERB --help` the options of one"),
    (
        &["node ls", "node list", "node inspect", "node update", "node ps"],
        "`shoal nodes` lists all nodes; `shoal drain`, `shoal cordon`, `shoal label` and `shoal \
            taint` decide about one",
    ),
    (
        &["volume create"],
        "`shoal run --volume NAME:/PATH` makes a volume for each replica, on the node that runs it",
    ),
    (
        &["volume inspect", "volume prune", "volume list", "volume remove"],
        "`shoal volume ls` lists all, with their nodes and whether they are used; `shoal volume \
            rm` removes those that are named",
    ),
    (
        &["secret create", "config create", "secret update", "config update"],
        "`shoal secret set NAME` and `shoal config set NAME` make one, or change it",
    ),
    (
        &["secret inspect", "secret get", "secret list", "config inspect", "config list"],
        "`shoal secret ls` and `shoal config ls` list them, `-o wide` with more, and `shoal config \
            get NAME` prints one; nobody can read a secret back",
    ),
    (
        &["secret remove", "config remove"],
        "`shoal secret rm NAME` and `shoal config rm NAME` remove one",
    ),
    (
        &["image pull", "image build", "image load", "image tag", "image save", "image inspect"],
        "`shoal image ls` lists images, and `shoal image push IMAGE` keeps one of this node's \
            engine for all nodes; engines build, load and tag them",
    ),
];

/// The error for a verb or an option that docker or kubectl has and shoal has not; none for any
/// other error. `words` are those of the command line, after the program's own.
pub fn explain(error: &clap::Error, words: &[String]) -> Option<CliError> {
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(given)) => Some(given.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let given = of(ContextKind::InvalidSubcommand)?;
            let at = words.iter().position(|word| word == given)?;
            let nested = words[..at].last().map(|parent| format!("{parent} {given}"));
            let has = |names: &[&str], name: &str| names.contains(&name);
            let parents = ["volume ", "image ", "secret ", "config "];
            let within = nested.filter(|it| parents.iter().any(|parent| it.starts_with(parent)));
            let name = within.unwrap_or_else(|| given.to_owned());
            let (_, instead) = VERBS.iter().find(|(names, _)| has(names, &name))?;
            Some(CliError::usage(format!("there is no `shoal {name}`: {instead}")))
        }
        ErrorKind::UnknownArgument => {
            let given = of(ContextKind::InvalidArg)?;
            let option = given.split('=').next().unwrap_or(given);
            let instead = match verb(words)?.as_str() {
                "run" => OPTIONS.iter().find(|(names, _)| names.contains(&option))?.1,
                verb => {
                    let is_it =
                        |it: &&(&str, &[&str], &str)| it.0 == verb && it.1.contains(&option);
                    OF_VERBS.iter().find(is_it)?.2
                }
            };
            Some(CliError::usage(format!("{option}: {instead}")))
        }
        _ => None,
    }
}

/// The verb of a command line: options of all verbs may stand before it.
fn verb(words: &[String]) -> Option<String> {
    let cli = super::Cli::command();
    let verbs: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    words.iter().find(|word| verbs.contains(&word.as_str())).cloned()
}

/// Options of shoal that hardly any program has: behind the first word of a command they are most
/// likely a slip.
const OWN: &[&str] = &[
    "--name",
    "--namespace",
    "--replicas",
    "--port",
    "--memory",
    "--memory-limit",
    "--cpu",
    "--cpu-limit",
    "--cpus",
    "--require",
    "--no-wait",
    "--env",
    "--image-name",
    "--pull",
    "--stop-grace",
];

/// The first word of a container's command that looks like an option of shoal.
pub fn own_option(command: &[String]) -> Option<&str> {
    let names = command.iter().map(|word| word.split('=').next().unwrap_or(word));
    names.into_iter().find(|name| OWN.contains(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn refusal(options: &[&str]) -> String {
        let words = ["shoal", "run", "--name", "web"].iter().chain(options).chain(&["nginx:1.27"]);
        refusal_of(&words.copied().collect::<Vec<_>>())
    }

    fn refusal_of(words: &[&str]) -> String {
        let error = Cli::try_parse_from(words).err().expect("it is refused");
        let words: Vec<String> = words[1..].iter().map(|&word| word.to_owned()).collect();
        explain(&error, &words).map(|error| error.message).unwrap_or_default()
    }

    /// Their fingers type the verbs that they know.
    #[test]
    fn verbs_of_other_tools_are_answered_with_those_of_shoal() {
        for (words, verb) in [
            ("stop web", "`shoal scale NAME=0`"),
            ("start web", "`shoal scale NAME=1`"),
            ("rollout undo web", "`shoal rollback NAME`"),
            ("kill web", "`shoal rm NAME`"),
            ("inspect web", "`shoal describe NAME`"),
            ("build .", "`docker build -t NAME .`"),
            ("compose up", "`shoal publish FILE`"),
            ("images", "`shoal image ls`"),
            ("pull nginx", "`shoal image push IMAGE`"),
            ("get pods", "`shoal ps`"),
            ("apply -f a.yaml", "`shoal publish FILE`"),
            ("delete pod a", "`shoal rm NAME`"),
            ("volume create data", "`shoal run --volume NAME:/PATH`"),
            ("--quiet image pull nginx", "`shoal image push IMAGE`"),
            ("cp -a web:/a .", "`shoal volume backup`"),
            ("ps -a", "all workloads"),
        ] {
            let words: Vec<&str> = ["shoal"].into_iter().chain(words.split(' ')).collect();
            let refused = refusal_of(&words);
            assert!(refused.contains(verb), "{words:?}: {refused}");
        }
        assert_eq!(refusal_of(&["shoal", "frobnicate"]), "", "clap says that it is not known");
        assert_eq!(refusal_of(&["shoal", "nodes", "-a"]), "");
    }

    /// A verb that shoal gets is no longer said to be missing, and every verb that is named is
    /// there.
    #[test]
    fn sentences_name_verbs_that_are_there() {
        let cli = Cli::command();
        let own: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        let sentences = VERBS.iter().map(|it| it.1).chain(OF_VERBS.iter().map(|it| it.2));
        for sentence in sentences {
            for after in sentence.split("`shoal ").skip(1) {
                let verb = after.split([' ', '`']).next().unwrap_or_default();
                let is_one = own.contains(&verb) || verb == "VERB" || verb.starts_with("--");
                assert!(is_one, "{verb}: {sentence}");
            }
        }
        for name in VERBS.iter().flat_map(|(names, _)| *names) {
            assert!(!own.contains(name), "{name} is a verb of shoal");
        }
        for (verb, options, _) in OF_VERBS {
            let verb = cli.find_subcommand(verb).expect("it is a verb");
            for argument in verb.get_arguments() {
                let short = argument.get_short().map(|it| format!("-{it}"));
                let long = argument.get_long().map(|it| format!("--{it}"));
                for name in short.into_iter().chain(long) {
                    assert!(!options.contains(&name.as_str()), "{name} is an option of {verb}");
                }
            }
        }
    }

    /// People who come from docker got clap's bare message.
    #[test]
    fn options_of_docker_are_answered_with_what_shoal_does() {
        assert_eq!(
            refusal(&["--rm"]),
            "--rm: shoal removes each container that has ended, and keeps its logs; `shoal rm \
             NAME` removes the workload"
        );
        for options in [
            ["--expose=80", ""],
            ["--restart", "always"],
            ["--rm", ""],
            ["-a", "stdout"],
            ["--gpus", "all"],
            ["--link", "db"],
            ["-m", "64m"],
            ["--label", "a=b"],
        ] {
            let given: Vec<&str> = options.into_iter().filter(|text| !text.is_empty()).collect();
            assert!(!refusal(&given).is_empty(), "{options:?}");
        }
        assert_eq!(refusal(&["--colour"]), "", "clap says that it is not known");
    }

    /// The same words mean the same.
    #[test]
    fn options_are_taken_as_docker_has_them() {
        let words =
            ["shoal", "run", "-d", "-e", "A=b", "--cpus", ".5", "--name", "a", "nginx:1.27"];
        assert!(Cli::try_parse_from(words).is_ok());
    }

    #[test]
    fn option_of_shoal_in_a_command_is_found() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(own_option(&words("redis-server --replicas=2")), Some("--replicas"));
        assert_eq!(own_option(&words("redis-server --appendonly yes")), None);
    }

    #[test]
    fn no_option_of_shoal_is_said_to_be_missing() {
        use clap::CommandFactory;
        let cli = Cli::command();
        let run = cli.find_subcommand("run").expect("there is `run`");
        for argument in run.get_arguments() {
            let long = argument.get_long().map(|name| format!("--{name}"));
            let short = argument.get_short().map(|name| format!("-{name}"));
            for name in long.into_iter().chain(short) {
                assert!(
                    OPTIONS.iter().all(|(names, _)| !names.contains(&name.as_str())),
                    "{name} is an option of shoal"
                );
            }
        }
    }
}
