//! Why a pod fits nowhere, in kube-scheduler's words: `0/3 nodes are available: 1 Insufficient cpu, 2 …`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Events, Plugin, Verdict, framework::Reason};

pub const NO_NODES: &str = "no nodes available to schedule pods";
pub const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
pub const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// An unschedulable result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For the pod's condition and event.
    pub message: String,
    /// The plugins that rejected, sorted.
    pub plugins: Vec<&'static str>,
    /// What could make the pod schedulable: the queue waits for one of these.
    pub events: Events,
}

impl Rejection {
    /// The condition for the pod's status: `PodScheduled` is False because it is `Unschedulable`.
    pub fn condition(&self, now: Timestamp) -> Value {
        json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": self.message,
            "lastTransitionTime": format!("{now:.0}"),
        })
    }
}

/// Collects the verdicts of all nodes.
#[derive(Default)]
pub(crate) struct Diagnosis {
    nodes: usize,
    reasons: BTreeMap<Reason, usize>,
    plugins: Vec<&'static str>,
    events: Events,
    no_victims: usize,
    not_helpful: usize,
    possible_victims: bool,
}

impl Diagnosis {
    pub fn add(&mut self, plugin: &dyn Plugin, verdict: &Verdict, has_victims: bool) {
        self.nodes += 1;
        for reason in verdict.reasons() {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        if let Err(at) = self.plugins.binary_search(&plugin.name()) {
            self.plugins.insert(at, plugin.name());
            self.events |= plugin.events();
        }
        match verdict {
            Verdict::Unschedulable(_) if has_victims => self.possible_victims = true,
            Verdict::Unschedulable(_) => self.no_victims += 1,
            _ => self.not_helpful += 1,
        }
    }

    pub fn finish(self) -> Rejection {
        if self.nodes == 0 {
            return Rejection { message: NO_NODES.into(), plugins: Vec::new(), events: Events::NODE_ADD };
        }
        let mut message = format!("0/{} nodes are available: {}.", self.nodes, histogram(&self.reasons));
        // Said only where it is true without trying: there is nobody whom preemption could evict.
        if !self.possible_victims {
            let counts = [(NO_VICTIMS.into(), self.no_victims), (NOT_HELPFUL.into(), self.not_helpful)];
            let counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            message += &format!(" preemption: 0/{} nodes are available: {}.", self.nodes, histogram(&counts));
        }
        Rejection { message, plugins: self.plugins, events: self.events | Events::NODE_ADD }
    }
}

/// `1 Insufficient cpu, 2 Too many pods`, sorted as text as kube-scheduler sorts it.
fn histogram(reasons: &BTreeMap<Reason, usize>) -> String {
    let mut parts: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}
