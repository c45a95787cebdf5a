use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_reconcile::{
    fixpoint::{Model, settle},
    {KindRef, Preconditions, ViewExt},
};

use super::*;
use crate::{
    pods,
    testing::{at, check, key, object, plan_of, run},
};

fn job(spec: Value) -> Job {
    let mut all = json!({
        "parallelism": 1, "completions": 1, "backoffLimit": 6,
        "template": { "spec": { "containers": [{ "name": "c" }], "restartPolicy": "Never" } },
    });
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    object(json!({ "metadata": { "name": "hello", "namespace": "default", "uid": "u-hello" }, "spec": all }))
}

/// A cluster with the controller and pods that end when told.
struct Cluster {
    model: Model,
    now: i64,
    /// Every pod there ever was, by UID.
    seen: BTreeSet<String>,
}

struct Ticks(i64, u32);
impl Entropy for Ticks {
    fn suffix(&mut self, _: usize) -> String {
        self.1 += 1;
        format!("{}x{}", self.0, self.1)
    }
}

impl Cluster {
    fn new(job: Job) -> Self {
        let mut model = Model::new();
        JobController.watches().into_iter().for_each(|w| model.declare(w.codec));
        model.insert(job, at(0));
        Self { model, now: 0, seen: BTreeSet::new() }
    }
    fn plan(&mut self) -> Plan {
        self.now += 1;
        let observed = JobController.observe(&self.model, &key("hello")).unwrap();
        JobController.reconcile(&observed, at(self.now), &mut Ticks(self.now, 0))
    }
    fn step(&mut self) -> Plan {
        let plan = self.plan();
        run(&mut self.model, &plan, at(self.now));
        self.seen.extend(self.pods().iter().map(|p| uid(&p.metadata).to_owned()));
        plan
    }
    /// The process stops in the middle of a plan.
    fn step_interrupted(&mut self, after: usize) {
        let plan = self.plan();
        for action in plan.actions.iter().take(after) {
            self.model.apply(action, at(self.now)).unwrap();
        }
        self.seen.extend(self.pods().iter().map(|p| uid(&p.metadata).to_owned()));
    }
    fn status(&self) -> JobStatus {
        self.model.get::<Job>(&key("hello")).unwrap().status.clone().unwrap_or_default()
    }
    fn conditions(&self) -> String {
        let conditions = self.status().conditions.unwrap_or_default();
        let text =
            conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason.clone().unwrap_or_default()));
        text.collect::<Vec<_>>().join(", ")
    }
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.model.list::<Pod>(Some("default"))
    }
    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods().into_iter().filter(|p| pods::is_active(p)).collect()
    }
    fn end(&mut self, pod: &Pod, exit_code: i32) {
        let now = at(self.now).to_string();
        self.model.change::<Pod>(&ObjectKey::of(&pod.metadata), |p| {
            p.status = Some(object(json!({
                "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
                "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": { "terminated": { "exitCode": exit_code, "finishedAt": now } } }],
            })));
        });
    }
    fn end_all(&mut self, exit_code: i32) {
        self.active().iter().for_each(|p| self.end(p, exit_code));
    }
    fn delete(&mut self, pod: &Pod) {
        let action = Action::Delete {
            kind: KindRef::of::<Pod>(),
            key: ObjectKey::of(&pod.metadata),
            propagation: None,
            grace_seconds: None,
            preconditions: Preconditions::default(),
        };
        self.model.apply(&action, at(self.now)).unwrap();
    }
    fn is_finished(&self) -> bool {
        let status = self.status();
        conditions::is_true(&status, "Complete") || conditions::is_true(&status, "Failed")
    }
    /// All pods end this way until the Job has ended.
    fn run_to_end(&mut self, exit_code: impl Fn(&Pod) -> i32) {
        for _ in 0..300 {
            self.step();
            if self.is_finished() {
                return drop(settle(&JobController, &mut self.model, &key("hello"), at(self.now)).unwrap());
            }
            // Beyond any back-off.
            self.now += 700;
            self.active().iter().for_each(|p| self.end(p, exit_code(p)));
        }
        panic!("the job does not end: {}", self.plan());
    }
}

#[test]
fn a_job_runs_its_pods_and_completes() {
    let mut cluster = Cluster::new(job(json!({ "completions": 3, "parallelism": 2 })));
    check(
        &cluster.step(),
        &["patch Job/status"],
        "create Pod default/hello-1x1\ncreate Pod default/hello-1x2\n\
         event Normal SuccessfulCreate default/hello: Created pod: hello-1x1\n\
         event Normal SuccessfulCreate default/hello: Created pod: hello-1x2",
    );
    assert_eq!((cluster.status().active, cluster.status().start_time.is_some()), (Some(2), true));
    check(&cluster.step(), &[], "");
    cluster.end_all(0);
    // Recorded in the same look that makes the third; then let go; then counted.
    check(&cluster.step(), &["patch Job/status", "event"], "create Pod default/hello-3x1");
    assert_eq!(cluster.status().uncounted_terminated_pods.unwrap().succeeded.unwrap().len(), 2);
    assert_eq!(cluster.status().succeeded, None);
    check(
        &cluster.step(),
        &["patch Job/status"],
        "patch Pod default/hello-1x1 {\"metadata\":{\"finalizers\":null}}\n\
         patch Pod default/hello-1x2 {\"metadata\":{\"finalizers\":null}}",
    );
    cluster.step();
    assert_eq!(cluster.status().succeeded, Some(2));
    cluster.run_to_end(|_| 0);
    assert_eq!(cluster.conditions(), "SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached");
    let status = cluster.status();
    assert_eq!((status.succeeded, status.active, status.ready, status.terminating), (Some(3), None, Some(0), Some(0)));
    assert!(status.completion_time.is_some());
    assert!(cluster.pods().iter().all(|p| !has_finalizer(&p.metadata, TRACKING_FINALIZER)));
}

#[test]
fn failures_back_off_and_end_the_job_beyond_the_limit() {
    let mut cluster = Cluster::new(job(json!({ "backoffLimit": 1 })));
    cluster.step();
    cluster.end_all(1);
    // 10 s after the failure, less the second that has passed; 20 s after the next.
    assert_eq!(cluster.step().requeue, Some(Duration::from_secs(9)));
    cluster.step();
    cluster.step();
    assert_eq!((cluster.pods().len(), cluster.status().failed), (1, Some(1)));
    cluster.now += 10;
    cluster.step();
    assert_eq!(cluster.active().len(), 1);
    cluster.end_all(1);
    cluster.run_to_end(|_| 1);
    assert_eq!(cluster.conditions(), "FailureTarget=True BackoffLimitExceeded, Failed=True BackoffLimitExceeded");
    assert_eq!((cluster.status().failed, cluster.pods().len()), (Some(2), 2));
}

#[test]
fn a_deadline_stops_what_runs() {
    let mut cluster = Cluster::new(job(json!({ "activeDeadlineSeconds": 30, "parallelism": 2, "completions": 2 })));
    assert_eq!(cluster.step().requeue, Some(Duration::from_secs(30)));
    cluster.now = 31;
    check(&cluster.step(), &["patch", "event"], "delete Pod default/hello-1x1\ndelete Pod default/hello-1x2");
    assert_eq!(cluster.conditions(), "FailureTarget=True DeadlineExceeded");
    cluster.run_to_end(|_| 0);
    assert_eq!((cluster.status().failed, cluster.status().active), (Some(2), None));
    assert!(cluster.conditions().ends_with("Failed=True DeadlineExceeded"));
}

#[test]
fn suspending_stops_pods_without_counting_them_and_resuming_starts_the_clock_anew() {
    let mut cluster = Cluster::new(job(json!({ "parallelism": 2, "completions": 2 })));
    cluster.step();
    let suspend =
        |c: &mut Cluster, on| c.model.change::<Job>(&key("hello"), |j| j.spec.as_mut().unwrap().suspend = Some(on));
    suspend(&mut cluster, true);
    let plan = cluster.step();
    assert!(plan.events.iter().any(|e| e.reason == "Suspended"));
    cluster.step();
    assert_eq!((cluster.pods().len(), cluster.status().failed, cluster.status().start_time), (0, None, None));
    assert_eq!(cluster.conditions(), "Suspended=True JobSuspended");
    suspend(&mut cluster, false);
    cluster.step();
    assert_eq!((cluster.pods().len(), cluster.conditions()), (2, "Suspended=False JobResumed".into()));
    assert!(cluster.status().start_time.is_some());
}

#[test]
fn an_indexed_job_runs_every_index_once() {
    let mut cluster = Cluster::new(job(json!({ "completionMode": "Indexed", "completions": 4, "parallelism": 2 })));
    cluster.step();
    let first = cluster.active()[0].clone();
    assert_eq!(objects_of(&first), ("0".into(), "hello-0".into(), "0".into()));
    cluster.run_to_end(|_| 0);
    let status = cluster.status();
    assert_eq!((status.completed_indexes.as_deref(), status.succeeded), (Some("0-3"), Some(4)));
    assert_eq!(cluster.seen.len(), 4);
}

fn objects_of(pod: &Pod) -> (String, String, String) {
    let label = pod.metadata.labels.as_ref().unwrap()[COMPLETION_INDEX].clone();
    let annotation = pod.metadata.annotations.as_ref().unwrap()[COMPLETION_INDEX].clone();
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
    (label, spec.hostname.clone().unwrap(), annotation)
}

#[test]
fn a_limit_per_index_fails_that_index_alone() {
    let spec = json!({ "completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": 1,
        "backoffLimit": 2147483647 });
    let mut cluster = Cluster::new(job(spec));
    cluster.run_to_end(|p| i32::from(pods_of::completion_index(p) == Some(1)));
    let status = cluster.status();
    assert_eq!((status.completed_indexes.as_deref(), status.failed_indexes.as_deref()), (Some("0,2"), Some("1")));
    assert_eq!((status.failed, cluster.seen.len()), (Some(2), 4));
    assert!(cluster.conditions().ends_with("Failed=True FailedIndexes"), "{}", cluster.conditions());
}

#[test]
fn the_failure_policy_decides_what_a_failure_means() {
    let spec = json!({ "backoffLimit": 0, "podReplacementPolicy": "Failed", "podFailurePolicy": { "rules": [
        { "action": "Ignore", "onExitCodes": { "operator": "In", "values": [3] } },
        { "action": "FailJob", "onExitCodes": { "containerName": "c", "operator": "In", "values": [42] } },
    ] } });
    let mut cluster = Cluster::new(job(spec));
    cluster.step();
    cluster.end_all(3);
    for _ in 0..3 {
        cluster.step();
    }
    cluster.now += 60;
    cluster.step();
    // Ignored: not counted, and replaced.
    assert_eq!((cluster.status().failed, cluster.active().len()), (None, 1));
    let pod = cluster.active()[0].metadata.name.clone().unwrap();
    cluster.end_all(42);
    cluster.run_to_end(|_| 42);
    let status = cluster.status();
    let failed = conditions::get(&status, "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("PodFailurePolicy"));
    let expected =
        format!("Container c for pod default/{pod} failed with exit code 42 matching FailJob rule at index 1");
    assert_eq!(failed.message.as_ref(), Some(&expected));
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let spec = json!({ "completionMode": "Indexed", "completions": 4, "parallelism": 4,
        "successPolicy": { "rules": [{ "succeededIndexes": "0,2", "succeededCount": 1 }] } });
    let mut cluster = Cluster::new(job(spec));
    cluster.step();
    let pod = cluster.active().into_iter().find(|p| pods_of::completion_index(p) == Some(2)).unwrap();
    cluster.end(&pod, 0);
    cluster.step();
    assert_eq!(cluster.conditions(), "SuccessCriteriaMet=True SuccessPolicy");
    cluster.run_to_end(|_| 0);
    assert_eq!((cluster.status().succeeded, cluster.status().active), (Some(1), None));
    assert!(cluster.conditions().ends_with("Complete=True SuccessPolicy"));
}

#[test]
fn a_work_queue_completes_when_one_succeeded_and_none_runs() {
    let mut cluster = Cluster::new(job(json!({ "parallelism": 3, "completions": null })));
    cluster.step();
    let first = cluster.active()[0].clone();
    cluster.end(&first, 0);
    for _ in 0..4 {
        cluster.step();
    }
    // No new ones, and the others may finish their work.
    assert_eq!((cluster.active().len(), cluster.seen.len(), cluster.is_finished()), (2, 3, false));
    cluster.run_to_end(|_| 0);
    assert_eq!(cluster.status().succeeded, Some(3));
}

#[test]
fn a_finished_job_goes_after_its_time() {
    let mut cluster = Cluster::new(job(json!({ "ttlSecondsAfterFinished": 100 })));
    cluster.run_to_end(|_| 0);
    let plan = cluster.plan();
    assert!(plan.is_empty() && plan.requeue.is_some_and(|r| r.as_secs() <= 100), "{plan}");
    cluster.now += 100;
    check(&cluster.plan(), &[], "delete Job default/hello Foreground");
}

#[test]
fn pods_of_a_job_that_is_gone_are_freed() {
    let mut cluster = Cluster::new(job(json!({ "parallelism": 2, "completions": 2 })));
    cluster.step();
    let pod = cluster.pods()[0].clone();
    let name = pod.metadata.name.clone().unwrap();
    let orphans = |c: &Cluster| plan_of(&JobOrphansController, &c.model, &name, at(9)).to_string();
    assert_eq!(orphans(&cluster), "");
    cluster.model.remove::<Job>(&key("hello"));
    assert_eq!(orphans(&cluster), format!("patch Pod default/{name} {{\"metadata\":{{\"finalizers\":null}}}}\n"));
    // A new Job of the same name is another Job.
    let mut other = job(json!({}));
    other.metadata.uid = Some("u-other".into());
    cluster.model.insert(other, at(9));
    assert_ne!(orphans(&cluster), "");
}

#[test]
fn a_job_of_another_controller_is_left_alone() {
    let mut cluster = Cluster::new(job(json!({ "managedBy": "kueue.x-k8s.io/multikueue" })));
    check(&cluster.step(), &[], "");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    /// Whatever ends, is deleted or stops in between: no pod is counted twice, never more succeed than are wanted,
    /// counters never fall, and the Job ends.
    #[test]
    fn every_pod_counts_at_most_once(
        completions in 1..7i32, parallelism in 1..5i32, indexed: bool,
        moves in prop::collection::vec((0..8u8, 0..16usize), 0..60)
    ) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let spec = json!({ "completions": completions, "parallelism": parallelism, "completionMode": mode,
            "backoffLimit": 1000 });
        let mut cluster = Cluster::new(job(spec));
        let mut deleted = BTreeSet::new();
        let mut before = (0, 0);
        for (what, which) in moves {
            let active = cluster.active();
            let pod = active.get(which % active.len().max(1)).cloned();
            match (what, pod) {
                (0..=2, _) => drop(cluster.step()),
                (3, _) => cluster.step_interrupted(which % 4),
                (4 | 5, Some(pod)) => cluster.end(&pod, 0),
                (6, Some(pod)) => cluster.end(&pod, 1),
                (7, Some(pod)) => {
                    deleted.insert(uid(&pod.metadata).to_owned());
                    cluster.delete(&pod);
                }
                _ => cluster.now += 40,
            }
            let status = cluster.status();
            let counted = (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0));
            prop_assert!(counted.0 <= completions && counted.0 >= before.0 && counted.1 >= before.1, "{counted:?}");
            prop_assert!((counted.0 + counted.1) as usize <= cluster.seen.len());
            prop_assert!(cluster.active().len() as i32 <= parallelism);
            before = counted;
        }
        cluster.run_to_end(|_| 0);
        let status = cluster.status();
        prop_assert!(conditions::is_true(&status, "Complete"), "{}", cluster.conditions());
        prop_assert_eq!(status.succeeded, Some(completions));
        // Every pod there ever was is counted: as succeeded, or as failed when it failed or was deleted.
        prop_assert_eq!(completions + status.failed.unwrap_or(0), cluster.seen.len() as i32);
        let by_phase = cluster.pods().iter().fold(BTreeMap::<String, i32>::new(), |mut by, p| {
            *by.entry(pods::phase(p).to_owned()).or_default() += 1;
            by
        });
        prop_assert_eq!(by_phase.get("Succeeded").copied().unwrap_or(0), completions);
    }
}
