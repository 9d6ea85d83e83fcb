//! The kind of a workload, and the parts of jobs and cron workloads.

use super::text::{At, Count, Time};
use super::{Document, ManifestError, field, quantity};
use crate::publish::kind::{self as options, KindOptions};
use shoal_protocol::model::spec::Kind;

impl Document {
    /// The kind that the document describes.
    pub(super) fn kind(&mut self, replicas: Option<u32>) -> Result<Kind, ManifestError> {
        let line = self.kind.as_ref().or(self.schedule.as_ref());
        let line = line.map_or(self.name.line(), At::line);
        let count = |name, text: Option<At<Count>>| {
            text.map(|text| field(name, &text, quantity::count)).transpose()
        };
        let (completions, parallel, retries) = (
            count("completions", self.completions.take())?,
            count("parallel", self.parallel.take())?,
            count("retries", self.retries.take())?,
        );
        let time = |name, text: Option<At<Time>>| {
            text.map(|text| field(name, &text, quantity::duration)).transpose()
        };
        let given = KindOptions {
            kind: self.kind.take().map(|text| field("kind", &text, options::kind)).transpose()?,
            order: self.order.take().map(|it| field("order", &it, str::parse)).transpose()?,
            completions,
            parallel,
            retries,
            deadline: time("deadline", self.deadline.take())?,
            keep: time("keep", self.keep.take())?,
            schedule: self.schedule.take().map(|text| text.take().0),
            timezone: self.timezone.take().map(|text| text.take().0),
            missed: self.missed.take().map(|it| field("missed", &it, str::parse)).transpose()?,
            overlap: self.overlap.take().map(|it| field("overlap", &it, str::parse)).transpose()?,
            suspend: self.suspend.take().is_some_and(At::take),
        };
        given.kind(replicas).map_err(|why| ManifestError::at(line, why))
    }
}
