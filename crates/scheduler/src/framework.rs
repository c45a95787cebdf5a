//! What a plugin is, and the profile that lists them.
//!
//! A plugin declares its extension points; the engine calls only those. Order of a decision: every filter on every
//! node; scores of the feasible ones, normalized and weighted; reserve on the chosen one; permit; bind.

use std::{borrow::Cow, time::Duration};

use crate::{Events, NodeState, PodInfo, Template};

/// Why a node was rejected, as `kubectl describe pod` counts it.
pub type Reason = Cow<'static, str>;

/// A plugin's answer about one node, named by what the scheduler does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Asks the next plugin.
    Fit,
    /// Leaves the node out, and counts each reason in the message. The pod waits for the plugin's declared events;
    /// removing pods from this node could help too.
    Unschedulable(Vec<Reason>),
    /// The same, but no removal of pods from this node would help: preemption does not look at it.
    Unresolvable(Vec<Reason>),
}
impl Verdict {
    pub fn is_fit(&self) -> bool {
        matches!(self, Self::Fit)
    }
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Fit => &[],
            Self::Unschedulable(reasons) | Self::Unresolvable(reasons) => reasons,
        }
    }
}

/// The answer after a node was chosen and reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Binds now.
    Allow,
    /// Keeps the reservation and binds when told, or gives up after this time.
    Wait(Duration),
    /// Takes the reservation back; the pod waits for the plugin's declared events.
    Reject(Reason),
}

/// How raw scores become 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    /// They are already.
    No,
    /// In proportion to the highest score among the feasible nodes.
    ByHighest,
    /// The same, and the highest raw score is the worst.
    ByHighestReversed,
}

pub const MAX_SCORE: i64 = 100;

/// Where a plugin takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    pub filter: bool,
    pub score: Option<Normalize>,
    pub reserve: bool,
    pub permit: bool,
    pub bind: bool,
}
impl Points {
    pub const FILTER: Self = Self { filter: true, score: None, reserve: false, permit: false, bind: false };
    pub const BIND: Self = Self { filter: false, score: None, reserve: false, permit: false, bind: true };
    pub const fn scored(self, normalize: Normalize) -> Self {
        Self { score: Some(normalize), ..self }
    }
}

/// One decision about nodes. Filters and scores are pure functions of the template and the node, so that pods with
/// equal templates share their results.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;
    fn points(&self) -> Points;
    /// What could make a pod schedulable that this plugin rejected.
    fn events(&self) -> Events {
        Events::ALL
    }
    /// Its answers depend on the pods of the node, not on the Node object alone: asked again after each assignment.
    fn depends_on_pods(&self) -> bool {
        false
    }
    fn filter(&self, _pod: &Template, _node: &NodeState) -> Verdict {
        Verdict::Fit
    }
    /// Higher is better (before [`Normalize`]).
    fn score(&self, _pod: &Template, _node: &NodeState) -> i64 {
        0
    }
    /// The node was chosen. Anything but `Fit` takes the choice back for this attempt.
    fn reserve(&self, _pod: &PodInfo, _node: &NodeState) -> Verdict {
        Verdict::Fit
    }
    fn permit(&self, _pod: &PodInfo, _node: &NodeState) -> Permit {
        Permit::Allow
    }
    /// The body to post to the pod's `binding` subresource; the first plugin that has one wins.
    fn bind(&self, _pod: &PodInfo, _node: &str) -> Option<serde_json::Value> {
        None
    }
}

/// The plugins in the order they are asked, with the weights of their scores.
pub struct Profile {
    pub(crate) plugins: Vec<(Box<dyn Plugin>, i64)>,
}
impl Profile {
    /// Plugins that do not depend on pods are asked first, whatever their order here: their answers are kept.
    pub fn new(mut plugins: Vec<(Box<dyn Plugin>, i64)>) -> Self {
        plugins.sort_by_key(|(plugin, _)| plugin.depends_on_pods());
        Self { plugins }
    }
    pub fn plugin_names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|(p, _)| p.name())
    }
}
