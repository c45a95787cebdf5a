//! What one template gets from every node: computed once, then kept up to date assignment by assignment.
//!
//! What must stay true: after [`Evaluation::catch_up`] every row equals what a fresh evaluation would give.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use crate::{
    NodeState, Profile, Template, Verdict,
    diagnosis::{Diagnosis, Rejection},
    framework::{MAX_SCORE, Normalize},
};

/// What a node is for the template.
struct Row {
    verdict: Verdict,
    rejected_by: Option<usize>,
    /// Plugins that look only at the Node object have accepted it.
    static_fit: bool,
    /// Raises with every change, so that old heap entries are recognised.
    stamp: u32,
}

/// Higher score first, then fewer pods, then the name's order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    total: i64,
    pods: Reverse<i64>,
    index: Reverse<usize>,
    stamp: u32,
}

struct Scorer {
    plugin: usize,
    weight: i64,
    normalize: Normalize,
    /// The highest raw score of a feasible node.
    highest: i64,
}

pub(crate) struct Evaluation {
    pub template: Arc<Template>,
    rows: Vec<Row>,
    scorers: Vec<Scorer>,
    /// Raw scores, `scorers.len()` per row.
    raw: Vec<i64>,
    heap: BinaryHeap<Candidate>,
    /// How much of the log of changed nodes has been seen.
    seen: usize,
    rejection: Option<(i32, Arc<Rejection>)>,
}

impl Evaluation {
    pub fn new(template: Arc<Template>, profile: &Profile, nodes: &[NodeState], seen: usize) -> Self {
        let scorer = |(plugin, (p, weight)): (usize, &(Box<dyn crate::Plugin>, i64))| {
            let normalize = p.points().score?;
            Some(Scorer { plugin, weight: *weight, normalize, highest: 0 })
        };
        let scorers: Vec<_> = profile.plugins.iter().enumerate().filter_map(scorer).collect();
        let mut this = Self {
            template,
            rows: Vec::with_capacity(nodes.len()),
            raw: vec![0; scorers.len() * nodes.len()],
            scorers,
            heap: BinaryHeap::with_capacity(nodes.len()),
            seen,
            rejection: None,
        };
        for (index, node) in nodes.iter().enumerate() {
            this.rows.push(Row { verdict: Verdict::Fit, rejected_by: None, static_fit: true, stamp: 0 });
            this.judge(index, profile, node, false);
            this.rows[index].static_fit = this.rows[index]
                .rejected_by
                .is_none_or(|plugin| node.exists && profile.plugins[plugin].0.depends_on_pods());
            this.score(index, profile, node, false);
        }
        this.find_highest();
        this.rebuild(nodes);
        this
    }

    /// Takes in the nodes that changed since the last call: pods came or went, the Node objects did not change.
    pub fn catch_up(&mut self, profile: &Profile, nodes: &[NodeState], log: &[usize]) {
        for &index in &log[self.seen..] {
            self.rejection = None;
            if !self.rows[index].static_fit {
                continue;
            }
            let was_fit = self.rows[index].verdict.is_fit();
            let old = self.highest_of(index);
            self.judge(index, profile, &nodes[index], true);
            self.score(index, profile, &nodes[index], true);
            self.rows[index].stamp += 1;
            // Only the best of a normalized score, or a change of it, moves the others.
            let moves = self.scorers.iter().enumerate().any(|(at, s)| {
                let now = self.raw[index * self.scorers.len() + at];
                s.normalize != Normalize::No && (old[at] != now || (s.highest != 0 && old[at] == s.highest))
            });
            let is_fit = self.rows[index].verdict.is_fit();
            if moves && (was_fit || is_fit) && self.find_highest() {
                self.rebuild(nodes);
            } else if is_fit {
                self.heap.push(self.candidate(index, &nodes[index]));
            }
        }
        self.seen = log.len();
    }

    /// The index of the best node.
    pub fn best(&mut self) -> Option<usize> {
        while let Some(top) = self.heap.peek() {
            let row = &self.rows[top.index.0];
            if row.stamp == top.stamp && row.verdict.is_fit() {
                return Some(top.index.0);
            }
            self.heap.pop();
        }
        None
    }

    /// Why there is no node for a pod of this priority.
    pub fn rejection(&mut self, profile: &Profile, nodes: &[NodeState], priority: i32) -> Arc<Rejection> {
        if let Some((of, rejection)) = &self.rejection
            && *of == priority
        {
            return rejection.clone();
        }
        let mut diagnosis = Diagnosis::default();
        for (row, node) in self.rows.iter().zip(nodes).filter(|(_, node)| node.exists) {
            if let Some(plugin) = row.rejected_by {
                diagnosis.add(&*profile.plugins[plugin].0, &row.verdict, node.has_lower_priority(priority));
            }
        }
        let rejection = Arc::new(diagnosis.finish());
        self.rejection = Some((priority, rejection.clone()));
        rejection
    }

    /// Asks the filters; the first that rejects decides.
    fn judge(&mut self, index: usize, profile: &Profile, node: &NodeState, only_dynamic: bool) {
        let row = &mut self.rows[index];
        row.verdict = Verdict::Fit;
        row.rejected_by = None;
        if !node.exists {
            row.verdict = Verdict::Unresolvable(Vec::new());
            row.static_fit = false;
            row.rejected_by = Some(0);
            return;
        }
        for (at, (plugin, _)) in profile.plugins.iter().enumerate() {
            if !plugin.points().filter || (only_dynamic && !plugin.depends_on_pods()) {
                continue;
            }
            let verdict = plugin.filter(&self.template, node);
            if !verdict.is_fit() {
                row.verdict = verdict;
                row.rejected_by = Some(at);
                return;
            }
        }
    }

    fn score(&mut self, index: usize, profile: &Profile, node: &NodeState, only_dynamic: bool) {
        if !self.rows[index].static_fit {
            return;
        }
        let base = index * self.scorers.len();
        for (at, scorer) in self.scorers.iter().enumerate() {
            let plugin = &profile.plugins[scorer.plugin].0;
            if !only_dynamic || plugin.depends_on_pods() {
                self.raw[base + at] = plugin.score(&self.template, node);
            }
        }
    }

    fn highest_of(&self, index: usize) -> Vec<i64> {
        self.raw[index * self.scorers.len()..][..self.scorers.len()].to_vec()
    }

    /// True when one changed.
    fn find_highest(&mut self) -> bool {
        let count = self.scorers.len();
        let mut changed = false;
        for (at, scorer) in self.scorers.iter_mut().enumerate().filter(|(_, s)| s.normalize != Normalize::No) {
            let fit = self.rows.iter().enumerate().filter(|(_, row)| row.verdict.is_fit());
            let highest = fit.map(|(index, _)| self.raw[index * count + at]).max().unwrap_or(0).max(0);
            changed |= highest != scorer.highest;
            scorer.highest = highest;
        }
        changed
    }

    fn rebuild(&mut self, nodes: &[NodeState]) {
        let fit = (0..self.rows.len()).filter(|index| self.rows[*index].verdict.is_fit());
        self.heap = fit.map(|index| self.candidate(index, &nodes[index])).collect();
    }

    fn candidate(&self, index: usize, node: &NodeState) -> Candidate {
        let raw = &self.raw[index * self.scorers.len()..];
        let total = self.scorers.iter().zip(raw).map(|(s, raw)| s.weight * s.normalized(*raw)).sum();
        Candidate { total, pods: Reverse(node.pods), index: Reverse(index), stamp: self.rows[index].stamp }
    }
}

impl Scorer {
    fn normalized(&self, raw: i64) -> i64 {
        let share = |raw: i64| if self.highest == 0 { 0 } else { MAX_SCORE * raw / self.highest };
        match self.normalize {
            Normalize::No => raw.clamp(0, MAX_SCORE),
            Normalize::ByHighest => share(raw),
            Normalize::ByHighestReversed => MAX_SCORE - share(raw),
        }
    }
}
