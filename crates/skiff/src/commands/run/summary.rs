//! The table at the end of `skiff run`.

use std::{fmt::Write, time::Duration};

use super::{Phases, track::Target, workload::Verdict};
use crate::{duration::show, table};

/// One row per workload with the time from its apply to each phase, and a line with the phases of the whole run.
pub fn render(targets: &[Target], phases: &Phases) -> String {
    let header = ["WORKLOAD", "RESULT", "PODS", "SCHEDULED", "STARTED", "FINISHED"];
    let since = |d: Option<Duration>| d.map_or_else(|| "-".to_owned(), show);
    let rows = targets.iter().map(|t| {
        let result = match &t.verdict {
            Verdict::Waiting => "unfinished".to_owned(),
            Verdict::Good(word) => (*word).to_owned(),
            Verdict::Bad(why) => format!("failed: {why}"),
        };
        let pods = format!("{}/{}", t.count.done, t.count.wanted);
        vec![t.label(), result, pods, since(t.scheduled), since(t.started), since(t.finished)]
    });
    let mut out = String::from("\n");
    out.push_str(&table::render(&header, rows));
    let mut parts = Vec::new();
    parts.extend(phases.cluster.map(|d| format!("cluster ready in {}", show(d))));
    parts.extend(phases.images.map(|d| format!("images loaded in {}", show(d))));
    parts.push(format!("applied in {}", show(phases.apply)));
    parts.push(format!("done in {}", show(phases.work)));
    let _ = writeln!(out, "\n{}", parts.join(", "));
    out
}

/// The workloads that are not done, for the error message.
pub fn unfinished(targets: &[Target]) -> String {
    let open = targets.iter().filter(|t| t.verdict == Verdict::Waiting);
    let list: Vec<_> = open.map(|t| format!("{} ({} of {} pods)", t.label(), t.count.done, t.count.wanted)).collect();
    list.join(", ")
}
