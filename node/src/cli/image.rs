//! `shoal image`: the images that nodes hold, without a registry.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use shoal_protocol::model::ProgramKind;
use shoal_protocol::model::spec::PullPolicy;
use shoal_runtimes::images::full_name;

use super::client::Client;
use super::context::{Context, Form};
use super::error::CliError;
use super::progress::Progress;
use super::{out, render};
use crate::api::images::form::{
    AllFreedBody, ImageProgress, ImagesBody, PruneBody, PushedBody, RemoveBody, ResolveBody,
};
use crate::publish::container::{is_file, pull};
use crate::publish::{Door, PublishError, image_file};

/// Put images into the cluster, list and remove them
///
/// Nodes hold images themselves and fetch them from one another: no registry is needed.
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        docker build -t shop/till:3 . && shoal image push shop/till:3\n  \
        shoal image push till.tar --name shop/till:3\n  \
        shoal run --name till --port 8080 shop/till:3   # on any node\n  \
        shoal image ls\n  \
        shoal image rm shop/till:3\n  \
        shoal image prune --dry-run"
)]
pub struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Push(Push),
    Ls(Ls),
    Rm(Rm),
    Prune(Prune),
}

/// Split an image into its parts and put them into this node's store
///
/// Parts that are there already are not sent again. Every node finds the image by its name then,
/// and fetches the parts that it lacks.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal image push shop/till:3\n  \
    shoal image push till.tar --name shop/till:3")]
struct Push {
    /// An image of this node's engine, or else of a registry; or a file: an archive of `docker
    /// save`, or an OCI layout
    #[arg(value_name = "NAME|FILE|FOLDER")]
    what: String,
    /// The name under which it is kept [default: its own]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// When this node's engine asks the registry: missing, always or never
    #[arg(long, value_name = "WHEN", value_parser = pull)]
    pull: Option<PullPolicy>,
    /// Which image of a file that has several
    #[arg(long, value_name = "NAME")]
    image_name: Option<String>,
}

/// List the images that nodes hold, or that workloads run
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal image ls\n  shoal image ls -o wide")]
struct Ls {}

/// Remove an image from all nodes: its name, and the parts that nothing else needs
///
/// An image that a workload uses is refused.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal image rm shop/till:3")]
struct Rm {
    /// The images
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Remove what no workload needs from all nodes: parts of images, and images in their engines
///
/// Images that were pushed stay, unless --all is given. What a workload names is never removed.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal image prune --dry-run\n  shoal image prune --all")]
struct Prune {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also images that were pushed and that no workload uses
    #[arg(long)]
    all: bool,
}

impl Image {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Push(push) => push.run(context).await,
            Verb::Ls(Ls {}) => list(context).await,
            Verb::Rm(rm) => rm.run(context).await,
            Verb::Prune(prune) => prune.run(context).await,
        }
    }
}

impl Push {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        if let Some(name) = self.name.as_ref().filter(|name| full_name(name).is_none()) {
            let error = CliError::usage(format!("--name: `{name}` is no name of an image"));
            return Err(error.hint("A name has the form of `shop/till:3`."));
        }
        let is_there = Path::new(&self.what).exists();
        match is_there || is_file(&self.what) {
            true => self.file(context).await,
            false => self.of_engine(context).await,
        }
    }

    async fn file(self, context: &Context) -> Result<(), CliError> {
        if self.pull.is_some() {
            let file = &self.what;
            return Err(CliError::usage(format!("--pull: {file} is a file, and not pulled")));
        }
        let path = PathBuf::from(&self.what);
        let file = image_file(path, self.image_name).await;
        let file = file.map_err(|error| CliError::from(PublishError::from(error)))?;
        let Some(name) = self.name.or(file.name.filter(|name| full_name(name).is_some())) else {
            let error = CliError::usage(format!("the image in {} has no name", self.what));
            return Err(error.hint("Give it one with --name, as in `--name shop/till:3`."));
        };
        let client = context.client();
        let (mut new, mut known) = (0, 0);
        let sender = client.clone().showing(context);
        for part in &file.parts {
            if client.holds(&part.artifact.digest).await? {
                known += 1;
            } else {
                sender.upload(ProgramKind::Container, part).await?;
                new += 1;
            }
        }
        let body = PushedBody { name: name.clone(), platforms: file.platforms };
        client.post_slow("/v1/images", &body).await?;
        pushed(context, &name, new, known)
    }

    async fn of_engine(self, context: &Context) -> Result<(), CliError> {
        if self.image_name.is_some() {
            let name = &self.what;
            return Err(CliError::usage(format!("--image-name: `{name}` is no file")));
        }
        let name = self.name.unwrap_or_else(|| self.what.clone());
        let asked = ResolveBody {
            reference: self.what,
            pull: self.pull.unwrap_or_default(),
            push_as: Some(name.clone()),
        };
        let mut progress = Progress::new(context);
        let mut told = |it: ImageProgress| progress.show(&it.what, it.bytes, it.total);
        let resolved = context.client().resolve(&asked, &mut told).await?;
        resolved.notes.iter().for_each(|note| context.note(note));
        pushed(context, &name, resolved.new_parts, resolved.known_parts)
    }
}

fn pushed(context: &Context, name: &str, new: usize, known: usize) -> Result<(), CliError> {
    if context.json() {
        let answer = serde_json::json!({ "name": name, "new_parts": new, "known_parts": known });
        return out::say_json(&answer);
    }
    context.note(&format!("{name}: {new} parts are new, {known} were known"));
    out::say(name)
}

async fn list(context: &Context) -> Result<(), CliError> {
    let bytes = context.client().get_bytes("/v1/images").await?;
    if context.json() {
        return out::say_bytes(&bytes);
    }
    let ImagesBody { images, unasked } = out::parse(&bytes)?;
    unasked.iter().for_each(|why| context.note(&format!("not asked: {why}")));
    out::say_raw(&render::images(&images, context.form == Form::Wide, render::now()))
}

impl Rm {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        for name in self.names {
            let body = RemoveBody { name };
            freed(context, &client, "/v1/images/remove", &body, "removed").await?;
        }
        Ok(())
    }
}

impl Prune {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let body = PruneBody { dry_run: self.dry_run, all: self.all };
        let done = if self.dry_run { "would remove" } else { "removed" };
        freed(context, &context.client(), "/v1/images/prune", &body, done).await
    }
}

async fn freed(
    context: &Context,
    client: &Client,
    path: &str,
    body: &impl serde::Serialize,
    done: &str,
) -> Result<(), CliError> {
    let bytes = client.post_slow(path, body).await?;
    if context.json() {
        return out::say_bytes(&bytes);
    }
    let AllFreedBody { freed, unasked } = out::parse(&bytes)?;
    unasked.iter().for_each(|why| context.note(&format!("not asked: {why}")));
    out::say_raw(&render::freed(&freed, done))
}
