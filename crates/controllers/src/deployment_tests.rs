use proptest::prelude::*;
use serde_json::json;
use skiff_reconcile::{
    ViewExt,
    fixpoint::{Model, settle},
};

use super::{revision::REVISION, *};
use crate::{
    ReplicaSetController,
    testing::{at, check, key, object, plan_of, run},
};

fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let bound = |text: &str| text.parse::<i32>().map_or_else(|_| json!(text), |n| json!(n));
    object(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u-web", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": template("v1"),
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": bound(surge), "maxUnavailable": bound(unavailable) } },
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 1,
        },
    }))
}

fn template(image: &str) -> serde_json::Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": image }] } })
}

/// A cluster with both controllers, whose pods become ready when told.
struct Cluster {
    model: Model,
    now: i64,
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        let mut model = Model::new();
        for watch in DeploymentController.watches().into_iter().chain(ReplicaSetController.watches()) {
            model.declare(watch.codec);
        }
        model.insert(deployment, at(0));
        Self { model, now: 0 }
    }
    fn change(&mut self, change: impl FnOnce(&mut Deployment)) {
        self.model.change::<Deployment>(&key("web"), |d| {
            change(d);
            d.metadata.generation = d.metadata.generation.map(|g| g + 1);
        });
    }
    fn image(&mut self, image: &str) {
        self.change(|d| d.spec.template = object(template(image)));
    }
    fn get(&self) -> Arc<Deployment> {
        self.model.get(&key("web")).unwrap()
    }
    fn sets(&self) -> Vec<Arc<ReplicaSet>> {
        let mut sets = self.model.list::<ReplicaSet>(Some("default"));
        sets.sort_by(|a, b| pods::by_creation(&a.metadata, &b.metadata));
        sets
    }
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.model.list::<Pod>(Some("default"))
    }
    fn available(&self) -> i32 {
        self.pods().iter().filter(|p| pods::is_active(p) && pods::is_ready(p)).count() as i32
    }
    fn step_deployment(&mut self) -> Plan {
        self.now += 1;
        let plan = plan_of(&DeploymentController, &self.model, "web", at(self.now));
        run(&mut self.model, &plan, at(self.now));
        plan
    }
    fn step_sets(&mut self) -> bool {
        self.now += 1;
        let mut busy = false;
        for set in self.sets() {
            let name = set.metadata.name.clone().unwrap();
            let observed = ReplicaSetController.observe(&self.model, &key(&name)).unwrap();
            // Names of the sets and of the time: unique in this model.
            let mut entropy = Seconds(self.now, 0);
            let plan = ReplicaSetController.reconcile(&observed, at(self.now), &mut entropy);
            busy |= !plan.is_empty();
            run(&mut self.model, &plan, at(self.now));
        }
        busy
    }
    fn make_ready(&mut self, which: impl Fn(usize) -> bool) -> bool {
        let waiting: Vec<_> = self.pods().into_iter().filter(|p| !pods::is_ready(p)).collect();
        let now = at(self.now).to_string();
        let mut any = false;
        for (_, pod) in waiting.iter().enumerate().filter(|(i, _)| which(*i)) {
            any = true;
            self.model.change::<Pod>(&ObjectKey::of(&pod.metadata), |p| {
                p.status = Some(object(json!({ "phase": "Running",
                    "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now }] })));
            });
        }
        any
    }
    fn run_until_quiet(&mut self) {
        for _ in 0..200 {
            let busy = !self.step_deployment().is_empty();
            if !(self.step_sets() | self.make_ready(|_| true) | busy) {
                return;
            }
        }
        panic!("does not come to rest: {}", self.step_deployment());
    }
    fn sizes(&self) -> Vec<i32> {
        self.sets().iter().map(|s| s.spec.replicas.unwrap_or(1)).collect()
    }
    fn condition(&self, type_: &str) -> String {
        let status = self.get().status.clone().unwrap_or_default();
        status::get(&status, type_).map_or_else(String::new, |c| {
            format!("{} {}", c.status.clone().unwrap_or_default(), c.reason.clone().unwrap_or_default())
        })
    }
    fn revision(&self) -> String {
        objects::annotation(&self.get().metadata, REVISION).unwrap_or_default().into()
    }
}

struct Seconds(i64, u32);
impl Entropy for Seconds {
    fn suffix(&mut self, _: usize) -> String {
        self.1 += 1;
        format!("{}-{}", self.0, self.1)
    }
}

#[test]
fn a_new_deployment_creates_its_set_and_becomes_complete() {
    let mut cluster = Cluster::new(deployment(3, "25%", "25%"));
    let set = revision::set_name(&cluster.get());
    check(
        &cluster.step_deployment(),
        &["patch Deployment/status", "requeue"],
        &format!(
            "create ReplicaSet default/{set}\n\
             patch Deployment default/web {{\"metadata\":{{\"annotations\":{{\"{REVISION}\":\"1\"}}}}}}\n\
             event Normal ScalingReplicaSet default/web: Scaled up replica set {set} from 0 to 3"
        ),
    );
    assert_eq!(cluster.condition("Progressing"), "True NewReplicaSetCreated");
    cluster.run_until_quiet();
    assert_eq!(cluster.condition("Progressing"), "True NewReplicaSetAvailable");
    assert_eq!(cluster.condition("Available"), "True MinimumReplicasAvailable");
    let status = cluster.get().status.clone().unwrap();
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (Some(3), Some(3), Some(3)));
    assert_eq!(status.unavailable_replicas, None);
    settle(&DeploymentController, &mut cluster.model, &key("web"), at(cluster.now + 1)).unwrap();
}

#[test]
fn an_update_rolls_and_an_undo_rolls_back_to_the_old_set_with_a_new_revision() {
    let mut cluster = Cluster::new(deployment(4, "1", "1"));
    cluster.run_until_quiet();
    cluster.image("v2");
    cluster.run_until_quiet();
    assert_eq!((cluster.sizes(), cluster.revision()), (vec![0, 4], "2".into()));
    cluster.image("v1");
    cluster.run_until_quiet();
    assert_eq!((cluster.sizes(), cluster.revision()), (vec![4, 0], "3".into()));
    let history = objects::annotation(&cluster.sets()[0].metadata, revision::REVISION_HISTORY).map(String::from);
    assert_eq!(history.as_deref(), Some("1"));
    // The third template: of the two old sets only one is kept.
    cluster.image("v3");
    cluster.run_until_quiet();
    assert_eq!((cluster.sizes(), cluster.revision()), (vec![0, 4], "4".into()));
}

#[test]
fn recreate_waits_until_every_old_pod_is_gone() {
    let mut recreate = deployment(2, "0", "0");
    recreate.spec.strategy = Some(object(json!({ "type": "Recreate" })));
    let mut cluster = Cluster::new(recreate);
    cluster.run_until_quiet();
    for pod in cluster.pods() {
        cluster.model.change::<Pod>(&ObjectKey::of(&pod.metadata), |p| {
            p.spec.get_or_insert_default().node_name = Some("n1".into());
        });
    }
    cluster.image("v2");
    for _ in 0..5 {
        cluster.step_deployment();
        cluster.step_sets();
    }
    // They were told to stop, but their node has not stopped them.
    assert_eq!((cluster.sizes(), cluster.pods().len()), (vec![0], 2));
    for pod in cluster.pods() {
        cluster.model.remove::<Pod>(&ObjectKey::of(&pod.metadata));
    }
    cluster.run_until_quiet();
    assert_eq!(cluster.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_in_proportion_but_does_not_roll() {
    let mut cluster = Cluster::new(deployment(10, "3", "2"));
    cluster.run_until_quiet();
    cluster.image("v2");
    cluster.step_deployment();
    cluster.step_sets();
    cluster.step_deployment();
    assert_eq!(cluster.sizes(), [8, 3]);
    cluster.change(|d| d.spec.paused = Some(true));
    cluster.step_deployment();
    assert_eq!(cluster.condition("Progressing"), "Unknown DeploymentPaused");
    cluster.change(|d| d.spec.replicas = Some(20));
    cluster.step_deployment();
    // 23 pods in all: 8 and 3 of at most 13 become 14 and 5 of 23, what is left over goes to the largest.
    assert_eq!(cluster.sizes(), [18, 5]);
    cluster.change(|d| d.spec.paused = Some(false));
    cluster.run_until_quiet();
    assert_eq!(
        (cluster.sizes(), cluster.condition("Progressing")),
        (vec![0, 20], "True NewReplicaSetAvailable".into())
    );
}

#[test]
fn no_progress_within_the_deadline_is_reported_and_checked_in_time() {
    let mut cluster = Cluster::new(deployment(1, "1", "0"));
    cluster.step_deployment();
    cluster.step_sets();
    for _ in 0..4 {
        cluster.step_deployment();
        cluster.step_sets();
    }
    let plan = plan_of(&DeploymentController, &cluster.model, "web", at(cluster.now));
    assert!(plan.is_empty(), "{plan}");
    let wait = plan.requeue.unwrap();
    assert!((590..=601).contains(&wait.as_secs()), "{wait:?}");
    cluster.now += wait.as_secs() as i64;
    cluster.step_deployment();
    assert_eq!(cluster.condition("Progressing"), "False ProgressDeadlineExceeded");
    // It goes on trying, and says so when it succeeds.
    cluster.run_until_quiet();
    assert_eq!(cluster.condition("Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn a_name_that_is_taken_by_another_template_leads_to_the_next_one() {
    let mut cluster = Cluster::new(deployment(1, "1", "0"));
    let first = revision::set_name(&cluster.get());
    cluster.model.insert::<ReplicaSet>(
        object(json!({ "metadata": { "name": first, "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": "db" } } } })),
        at(0),
    );
    cluster.step_deployment();
    assert_eq!(cluster.get().status.clone().unwrap().collision_count, Some(1));
    assert_ne!(revision::set_name(&cluster.get()), first);
    cluster.step_deployment();
    assert_eq!(cluster.sets().len(), 2);
}

#[test]
fn bounds_round_surge_up_and_unavailable_down() {
    for (replicas, surge, unavailable, expected) in [
        (10, "25%", "25%", (3, 2)),
        (1, "0", "25%", (0, 1)),
        (3, "2", "0", (2, 0)),
        (4, "0", "200%", (0, 4)),
        (0, "1", "1", (1, 0)),
    ] {
        assert_eq!(bounds(&deployment(replicas, surge, unavailable)), expected, "{replicas} {surge} {unavailable}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever the order in which controllers and pods move: never more than maxSurge pods are wanted above the
    /// number, available pods are never given up below the number minus maxUnavailable, and it comes to an end.
    #[test]
    fn a_rollout_stays_within_its_bounds(
        replicas in 1..8i32, surge in 0..4i32, unavailable in 0..4i32, moves in prop::collection::vec(0..6u8, 0..80)
    ) {
        prop_assume!(surge + unavailable > 0);
        let number = |n| Some(IntOrString::Int(n));
        let mut start = deployment(replicas, "", "");
        let update = start.spec.strategy.as_mut().and_then(|s| s.rolling_update.as_mut()).unwrap();
        (update.max_surge, update.max_unavailable) = (number(surge), number(unavailable));
        let mut cluster = Cluster::new(start);
        cluster.run_until_quiet();
        let enough = replicas - unavailable.min(replicas);
        for (at, what) in moves.into_iter().enumerate() {
            let before = cluster.available();
            match what {
                0 | 1 => drop(cluster.step_deployment()),
                2 | 3 => drop(cluster.step_sets()),
                4 => drop(cluster.make_ready(|i| i % 2 == at % 2)),
                _ => cluster.image(&format!("v{}", at % 4)),
            }
            let sizes = cluster.sizes();
            prop_assert!(sizes.iter().sum::<i32>() <= replicas + surge, "{sizes:?} for {replicas}+{surge}");
            let after = cluster.available();
            prop_assert!(after >= before.min(enough), "{before} → {after}, {enough} are enough");
        }
        cluster.run_until_quiet();
        prop_assert_eq!(cluster.sizes().into_iter().filter(|n| *n > 0).collect::<Vec<_>>(), vec![replicas]);
        prop_assert!(plan_of(&DeploymentController, &cluster.model, "web", at(cluster.now)).is_empty());
    }

    /// Scaling in the middle of a rollout ends in the wanted number of pods of the newest template.
    #[test]
    fn scaling_and_updating_in_any_order_converges(moves in prop::collection::vec((0..5u8, 0..9i32), 1..40)) {
        let mut cluster = Cluster::new(deployment(3, "25%", "25%"));
        for (what, n) in moves {
            match what {
                0 => cluster.change(|d| d.spec.replicas = Some(n)),
                1 => cluster.image(&format!("v{}", n % 3)),
                2 => drop(cluster.step_deployment()),
                3 => drop(cluster.step_sets()),
                _ => drop(cluster.make_ready(|i| i % 2 == 0)),
            }
        }
        cluster.run_until_quiet();
        let wanted = cluster.get().spec.replicas.unwrap();
        let status = cluster.get().status.clone().unwrap();
        prop_assert_eq!(status.updated_replicas.unwrap_or(0), wanted);
        prop_assert_eq!(status.available_replicas.unwrap_or(0), wanted);
        prop_assert_eq!(cluster.pods().len() as i32, wanted);
    }
}
