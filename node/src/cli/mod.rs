//! The command line: one file a verb, over the API of a daemon.
//!
//! Tables and events go to standard output, progress and errors to standard error. Scripts can rely
//! on [`Exit`].

// For the API's tests, which publish through it.
pub(crate) mod client;
mod context;
mod error;
mod files;
mod no_daemon;
mod out;
mod progress;
mod render;
mod session;
mod target;
mod terminal;
// For the API's tests of operators.
pub(crate) mod via;
mod wait;

mod autoscale;
mod completions;
mod config;
mod contexts;
mod convert;
mod cp;
mod cron;
mod describe;
mod detach;
mod diff;
mod doors;
mod down;
mod drain;
mod events;
mod exec;
mod explain;
mod export;
mod from_docker;
pub(crate) mod fuzzing;
mod given;
mod history;
mod image;
mod invite;
mod job;
mod join;
pub(crate) mod keys;
mod logs;
mod node;
mod nodes;
mod operator;
mod pause;
mod policy;
mod port_forward;
mod ps;
mod publish;
mod quota;
mod restart;
mod revoke;
mod rights;
mod rm;
mod rollback;
mod run;
mod scale;
mod schema;
mod secret;
mod stats;
mod status;
mod up;
mod values;
mod versions;
mod volume;
mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::{Context, Global};
pub use error::{CliError, Exit};

/// Runs workloads on a group of devices that follow no leader.
#[derive(Parser)]
#[command(
    name = "shoal",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "The way in:\n  \
        shoal up                                    # on the first device\n  \
        shoal invite                                # there: prints a line for another device\n  \
        shoal join shoal2:..@10.0.0.5:7700          # on that one\n  \
        shoal run hello.wasm --name hello --replicas 2\n  \
        curl http://hello.localhost:8080/\n\n\
        From elsewhere, with a key of `shoal operator add`:\n  \
        shoal --via gate.example:7700 ps\n  \
        shoal context add shop --via gate.example --operator ann.json; shoal context use shop\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage or a bad file, 3 no such thing, 4 refused by \
        the cluster\n\
        (nothing changed), 5 accepted but not done in time, 6 no daemon answers."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Up(Box<up::Up>),
    Down(down::Down),
    Invite(invite::Invite),
    Join(Box<join::Join>),
    Revoke(revoke::Revoke),
    Operator(operator::Operator),
    Quota(quota::Quota),
    Whoami(whoami::Whoami),
    Context(contexts::Contexts),
    Status(status::Status),
    Run(Box<run::Run>),
    Publish(publish::Publish),
    Diff(diff::Diff),
    Convert(convert::Convert),
    Image(image::Image),
    Ps(ps::Ps),
    Nodes(nodes::Nodes),
    Node(node::Node),
    Cordon(policy::Cordon),
    Uncordon(policy::Uncordon),
    Drain(drain::Drain),
    Label(policy::Label),
    Taint(policy::Taint),
    Describe(describe::Describe),
    Logs(logs::Logs),
    Events(events::Events),
    History(history::History),
    Explain(explain::Explain),
    Stats(stats::Stats),
    Exec(exec::Exec),
    Attach(exec::Attach),
    Cp(cp::Cp),
    PortForward(port_forward::PortForward),
    Wait(job::Wait),
    Cron(cron::Cron),
    Scale(scale::Scale),
    Autoscale(autoscale::AutoscaleVerb),
    Restart(restart::Restart),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Rollback(rollback::Rollback),
    Export(export::Export),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Rm(rm::Rm),
    Secret(secret::Secret),
    Config(config::Config),
    Volume(volume::Volume),
}

impl Cli {
    /// The options of all verbs, with defaults filled in.
    fn context(&self) -> Result<Context, CliError> {
        // These have nothing to do with the current context, which may even be gone.
        let follows = !matches!(self.verb, Verb::Context(_) | Verb::Up(_) | Verb::Join(_));
        Context::new(self.global.clone(), follows)
    }
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match from_docker::explain(&error, &words()) {
            Some(explained) => {
                explained.show();
                return explained.exit.into();
            }
            None => error.exit(),
        },
    };
    let done = cli.context().and_then(|context| run(&context, cli.verb));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.show();
            error.exit.into()
        }
    }
}

/// The words of the command line after the program's name, as far as they are text.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

fn run(context: &Context, verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::Up(up) => return up.run(context),
        Verb::Join(join) => return join.run(context),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("the system gives no event loop: {error}")))?;
    runtime.block_on(async {
        match verb {
            Verb::Up(up) => up.run(context),
            Verb::Down(down) => down.run(context).await,
            Verb::Invite(invite) => invite.run(context).await,
            Verb::Join(join) => join.run(context),
            Verb::Revoke(revoke) => revoke.run(context).await,
            Verb::Operator(operator) => operator.run(context).await,
            Verb::Quota(quota) => quota.run(context).await,
            Verb::Whoami(whoami) => whoami.run(context).await,
            Verb::Context(contexts) => contexts.run(context),
            Verb::Status(status) => status.run(context).await,
            Verb::Run(run) => run.run(context).await,
            Verb::Publish(publish) => publish.run(context).await,
            Verb::Diff(diff) => diff.run(context).await,
            Verb::Convert(convert) => convert.run(context),
            Verb::Image(image) => image.run(context).await,
            Verb::Ps(ps) => ps.run(context).await,
            Verb::Nodes(nodes) => nodes.run(context).await,
            Verb::Cordon(cordon) => cordon.run(context).await,
            Verb::Uncordon(uncordon) => uncordon.run(context).await,
            Verb::Node(node) => node.run(context).await,
            Verb::Drain(drain) => drain.run(context).await,
            Verb::Label(label) => label.run(context).await,
            Verb::Taint(taint) => taint.run(context).await,
            Verb::Describe(describe) => describe.run(context).await,
            Verb::Logs(logs) => logs.run(context).await,
            Verb::Events(events) => events.run(context).await,
            Verb::History(history) => history.run(context).await,
            Verb::Explain(explain) => explain.run(context).await,
            Verb::Stats(stats) => stats.run(context).await,
            Verb::Exec(exec) => exec.run(context).await,
            Verb::Attach(attach) => attach.run(context).await,
            Verb::Cp(cp) => cp.run(context).await,
            Verb::PortForward(forward) => forward.run(context).await,
            Verb::Wait(wait) => wait.run(context).await,
            Verb::Cron(cron) => cron.run(context).await,
            Verb::Scale(scale) => scale.run(context).await,
            Verb::Autoscale(autoscale) => autoscale.run(context).await,
            Verb::Restart(restart) => restart.run(context).await,
            Verb::Pause(pause) => pause.run(context).await,
            Verb::Resume(resume) => resume.run(context).await,
            Verb::Rollback(rollback) => rollback.run(context).await,
            Verb::Export(export) => export.run(context).await,
            Verb::Schema(schema) => schema.run(),
            Verb::Completions(completions) => completions.run(),
            Verb::Rm(rm) => rm.run(context).await,
            Verb::Secret(secret) => secret.run(context).await,
            Verb::Config(config) => config.run(context).await,
            Verb::Volume(volume) => volume.run(context).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_are_well_formed_and_have_examples() {
        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("shoal {}", verb.get_name())),
                "`{}` shows no example",
                verb.get_name()
            );
            assert!(verb.get_about().is_some(), "`{}` does not say what it does", verb.get_name());
        }
    }

    /// clap panics when a verb's own option has the name of one that all verbs take, and the
    /// latter is given.
    #[test]
    fn own_options_are_told_from_those_of_all_verbs() {
        fn check(verb: &clap::Command, of_all: &[String], path: &str) {
            for argument in verb.get_arguments().filter(|it| !it.is_global_set()) {
                let id = argument.get_id().as_str();
                assert!(!of_all.iter().any(|it| it == id), "`{path}` has its own `{id}`");
            }
            for inner in verb.get_subcommands() {
                check(inner, of_all, &format!("{path} {}", inner.get_name()));
            }
        }
        let command = Cli::command();
        let of_all: Vec<String> = command
            .get_arguments()
            .filter(|it| it.is_global_set())
            .map(|it| it.get_id().to_string())
            .collect();
        assert!(of_all.len() > 5, "{of_all:?}");
        command.get_subcommands().for_each(|verb| check(verb, &of_all, verb.get_name()));
    }
}
