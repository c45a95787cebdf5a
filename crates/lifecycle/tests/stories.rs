//! What a pod's way looks like, one sentence each.

mod world;

use k8s_openapi::api::core::v1::{PodReadinessGate, Probe};
use skiff_lifecycle::{Outcome, ProbeKind, RecordState, TerminatedState, adopt};
use world::{World, container, pod, sidecar};

const UP: &str = "mount volumes\nrun sandbox 0\nensure image img for a/0\nstart a/0";

#[test]
fn a_bound_pod_gets_volumes_a_sandbox_its_image_and_then_runs() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    assert_eq!(w.summary(), "Pending; a=ContainerCreating x0");
    assert_eq!(w.condition("PodReadyToStartContainers"), "False");
    assert_eq!(w.settle(), UP);
    assert_eq!(w.summary(), "Running; a=running x0 ready");
    assert_eq!(w.condition("Ready"), "True");
    let status = w.plan().status;
    assert_eq!(status.pod_ip.as_deref(), Some("127.1.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"), "what others own is kept");
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn a_never_pod_that_ends_well_succeeds_and_leaves_nothing() {
    let mut w = World::new(pod("Never", vec![], vec![container("a")]));
    w.settle();
    assert_eq!(w.exit("a", 0).settle(), "remove sandbox 0\nunmount volumes");
    assert_eq!(w.summary(), "Succeeded; a=Completed(0) x0");
    assert_eq!(w.condition("Ready"), "False PodCompleted");
    assert_eq!(w.condition("Initialized"), "True PodCompleted");
    assert_eq!(w.plan().status.pod_ip.as_deref(), Some("127.1.0.1"), "the address stays");
}

#[test]
fn a_never_pod_that_fails_is_failed_for_good() {
    let mut w = World::new(pod("Never", vec![], vec![container("a"), container("b")]));
    w.settle();
    w.exit("a", 3).settle();
    assert_eq!(w.summary(), "Running; a=Error(3) x0; b=running x0 ready");
    w.exit("b", 0).settle();
    assert_eq!(w.summary(), "Failed; a=Error(3) x0; b=Completed(0) x0");
    w.pass(3600);
    assert_eq!(w.settle(), "");
}

#[test]
fn a_crash_loop_restarts_at_once_then_after_10s_then_20s_up_to_5_minutes() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.settle();
    assert_eq!(w.exit("a", 1).settle(), "ensure image img for a/1\nstart a/1");
    let mut waits = vec![];
    for _ in 0..7 {
        w.exit("a", 1);
        let plan = w.plan();
        assert!(w.settle().lines().all(|l| l.starts_with("remove a/")), "it waits");
        assert_eq!(w.phase(), "Running");
        let until = plan.requeue.expect("a timer");
        waits.push(until.duration_since(w.now).as_secs());
        w.now = until;
        assert!(w.settle().contains("start a/"));
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    w.exit("a", 1);
    let status = w.plan().status;
    let a = &status.container_statuses.as_ref().expect("statuses")[0];
    let waiting = a.state.clone().expect("state").waiting.expect("it waits");
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(waiting.message.as_deref(), Some("back-off 5m0s restarting failed container=a pod=p_default(u1)"));
    let last = a.last_state.clone().expect("last").terminated.expect("it ended");
    assert_eq!((last.exit_code, a.restart_count), (1, 8));
}

#[test]
fn a_failed_post_start_is_told_before_its_back_off() {
    let because = "Exec lifecycle hook ([x]) for Container \"a\" failed";
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.bad_hooks = vec![("a".to_owned(), because.to_owned())];
    assert!(w.settle().ends_with("start a/0\nensure image img for a/1\nstart a/1"), "at once the first time");
    for (sentence, seconds, expected) in [
        ("it waits, and says why", 0, "Running; a=PostStartHookError x1"),
        ("until the node looks again", 5, "Running; a=CrashLoopBackOff x1"),
        ("and so the next time", 5, "Running; a=PostStartHookError x2"),
        ("and then", 5, "Running; a=CrashLoopBackOff x2"),
    ] {
        assert!(seconds == 0 || w.plan().requeue.is_some_and(|at| at <= w.pass(seconds).now), "{sentence}: no timer");
        w.settle();
        assert_eq!(w.summary(), expected, "{sentence}");
        let status = w.plan().status.container_statuses.expect("statuses").remove(0);
        let waiting = status.state.and_then(|s| s.waiting).expect("it waits");
        assert_eq!(waiting.message.as_deref() == Some(because), expected.contains("PostStart"), "{sentence}");
        assert_eq!(status.last_state.and_then(|l| l.terminated).map(|t| t.exit_code), Some(137), "{sentence}");
    }
    w.bad_hooks.clear();
    w.pass(15).settle();
    assert_eq!(w.summary(), "Running; a=running x3 ready");

    let mut w = World::new(pod("Never", vec![], vec![container("a")]));
    w.bad_hooks = vec![("a".to_owned(), because.to_owned())];
    w.settle();
    assert_eq!(w.summary(), "Failed; a=Error(137) x0", "who is not restarted has ended");
}

#[test]
fn ten_minutes_of_running_reset_the_back_off() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.settle();
    w.exit("a", 1).settle();
    w.pass(601).exit("a", 1);
    assert!(w.settle().contains("start a/2"), "at once");
}

#[test]
fn on_failure_restarts_what_failed_and_leaves_what_succeeded() {
    let mut w = World::new(pod("OnFailure", vec![], vec![container("a"), container("b")]));
    w.settle();
    w.exit("a", 0).exit("b", 2);
    assert_eq!(w.settle(), "ensure image img for b/1\nstart b/1");
    assert_eq!(w.summary(), "Running; a=Completed(0) x0; b=running x1 ready");
    w.exit("b", 0).settle();
    assert_eq!(w.summary(), "Succeeded; a=Completed(0) x0; b=Completed(0) x1");
}

#[test]
fn a_pod_is_evicted_when_a_container_took_too_much_of_the_disk() {
    let mut w = World::new(pod("Always", vec![], vec![container("a"), container("b")]));
    w.settle();
    let message = "Container a exceeded its local ephemeral storage limit \"1Mi\". ";
    let id = w.observed.newest("a").expect("an attempt").id.clone();
    let RecordState::Exited(exit) = w.exited(137) else { panic!("it has exited") };
    let state =
        RecordState::Exited(TerminatedState { reason: "Evicted".to_owned(), message: message.to_owned(), ..exit });
    w.observed.apply(Outcome::State { id, state }, w.now);
    assert_eq!(w.settle(), "stop b/0 within 1s\nremove sandbox 0\nunmount volumes", "and nothing is restarted");
    let status = w.plan().status;
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    assert_eq!(status.message.as_deref(), Some(message));
    assert_eq!(w.pass(1000).settle(), "", "it stays so");
}

#[test]
fn only_the_last_two_attempts_are_kept() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.settle();
    w.exit("a", 1).settle();
    w.exit("a", 1).pass(10).settle();
    assert!(w.history.contains(&"remove a/0".to_owned()), "{:?}", w.history);
    assert_eq!(w.observed.containers.len(), 2);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_main_ones() {
    let mut w = World::new(pod("Always", vec![container("i"), container("j")], vec![container("a")]));
    assert!(w.settle().ends_with("start i/0"));
    assert_eq!(w.summary(), "Pending; i=running x0; j=PodInitializing x0; a=PodInitializing x0");
    assert_eq!(w.condition("Initialized"), "False ContainersNotInitialized containers with incomplete status: [i j]");
    assert_eq!(w.exit("i", 1).settle(), "ensure image img for i/1\nstart i/1");
    assert!(w.exit("i", 0).settle().ends_with("start j/0"));
    assert!(w.exit("j", 0).settle().ends_with("start a/0"));
    assert_eq!(w.summary(), "Running; i=Completed(0) x1 ready; j=Completed(0) x0 ready; a=running x0 ready");
    assert_eq!(w.condition("Initialized"), "True");
}

#[test]
fn an_init_container_that_fails_in_a_never_pod_fails_the_pod() {
    let mut w = World::new(pod("Never", vec![sidecar("s"), container("i")], vec![container("a")]));
    w.settle();
    assert!(w.exit("i", 1).settle().starts_with("stop s/0 within 30s"));
    assert_eq!(w.summary(), "Failed; s=Completed(0) x0; i=Error(1) x0; a=PodInitializing x0");
    assert_eq!(w.plan().commands, []);
}

#[test]
fn a_sidecar_starts_before_the_main_container_and_is_stopped_after_it() {
    let mut w = World::new(pod("Never", vec![sidecar("s"), sidecar("t")], vec![container("a")]));
    let ran = w.settle();
    let order: Vec<&str> = ran.lines().filter(|l| l.starts_with("start")).collect();
    assert_eq!(order, ["start s/0", "start t/0", "start a/0"]);
    assert_eq!(w.exit("s", 1).settle(), "ensure image img for s/1\nstart s/1", "a sidecar always restarts");
    let ended = w.exit("a", 0).settle();
    assert_eq!(ended, "stop t/0 within 30s\nstop s/1 within 30s\nremove sandbox 0\nunmount volumes");
    assert_eq!(w.summary(), "Succeeded; s=Completed(0) x1; t=Completed(0) x0; a=Completed(0) x0");
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_back_what_comes_after_it() {
    let mut side = sidecar("s");
    side.startup_probe = Some(Probe::default());
    let mut w = World::new(pod("Always", vec![side], vec![container("a")]));
    assert!(w.settle().ends_with("start s/0"));
    let probe = |ok| Outcome::Probe { container: "s".into(), attempt: 0, kind: ProbeKind::Startup, ok };
    w.observed.apply(probe(true), w.now);
    assert!(w.settle().ends_with("start a/0"));
}

#[test]
fn readiness_waits_for_the_probe_and_for_the_gates() {
    let mut a = container("a");
    a.readiness_probe = Some(Probe::default());
    let mut p = pod("Always", vec![], vec![a]);
    p.spec.as_mut().expect("spec").readiness_gates = Some(vec![PodReadinessGate { condition_type: "x/y".into() }]);
    let mut w = World::new(p);
    w.settle();
    assert_eq!(w.condition("Ready"), "False ContainersNotReady containers with unready status: [a]");
    let ready = Outcome::Probe { container: "a".into(), attempt: 0, kind: ProbeKind::Readiness, ok: true };
    w.observed.apply(ready, w.now);
    assert_eq!(w.condition("ContainersReady"), "True");
    assert_eq!(
        w.condition("Ready"),
        "False ReadinessGatesNotReady corresponding condition of pod readiness gate \"x/y\" does not exist."
    );
}

#[test]
fn a_failed_liveness_probe_restarts_the_container() {
    let mut a = container("a");
    a.liveness_probe = Some(Probe { termination_grace_period_seconds: Some(5), ..Probe::default() });
    let mut w = World::new(pod("Always", vec![], vec![a]));
    w.settle();
    w.obeys = Some(143);
    let dead = Outcome::Probe { container: "a".into(), attempt: 0, kind: ProbeKind::Liveness, ok: false };
    w.observed.apply(dead, w.now);
    assert_eq!(w.settle(), "stop a/0 within 5s\nensure image img for a/1\nstart a/1");
}

#[test]
fn a_pull_that_fails_backs_off_and_succeeds_when_the_image_is_there() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.bad_images.push("img".into());
    w.settle();
    assert_eq!(w.summary(), "Pending; a=ErrImagePull x0");
    w.pass(1).settle();
    assert_eq!(w.summary(), "Pending; a=ImagePullBackOff x0");
    assert_eq!(w.pass(9).settle(), "ensure image img for a/0");
    assert_eq!(w.plan().requeue.expect("flip").duration_since(w.now).as_secs(), 1);
    w.pass(2).settle();
    assert_eq!(w.plan().requeue.expect("retry").duration_since(w.now).as_secs(), 18, "twice as long");
    w.bad_images.clear();
    w.observed.apply(Outcome::RetryNow, w.now);
    assert!(w.settle().ends_with("start a/0"), "an image that arrives is used at once");
}

#[test]
fn a_missing_config_map_is_waited_for() {
    let mut w = World::new(pod("Never", vec![], vec![container("a")]));
    w.bad_config.push("a".into());
    w.settle();
    assert_eq!(w.summary(), "Pending; a=CreateContainerConfigError x0");
    assert_eq!(w.pass(9).settle(), "");
    assert_eq!(w.pass(1).settle(), "start a/0", "tried again");
    w.bad_config.clear();
    w.observed.apply(Outcome::RetryNow, w.now);
    assert_eq!(w.settle(), "start a/0");
    assert_eq!(w.summary(), "Running; a=running x0 ready");
}

#[test]
fn a_deleted_pod_is_stopped_cleaned_and_then_deleted_from_the_api() {
    let mut w = World::new(pod("Always", vec![sidecar("s")], vec![container("a")]));
    w.settle();
    let ended = w.delete(7).settle();
    assert_eq!(ended, "stop a/0 within 7s\nstop s/0 within 7s\nremove sandbox 0\nunmount volumes\ndelete pod from api");
    assert!(w.plan().done);
    assert_eq!(w.phase(), "Succeeded");
}

#[test]
fn a_second_delete_with_less_grace_shortens_the_first() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.obeys = None;
    w.settle();
    assert_eq!(w.delete(30).settle(), "stop a/0 within 30s");
    assert_eq!(w.pass(5).settle(), "", "it was told");
    assert_eq!(w.delete(1).settle(), "stop a/0 within 1s");
}

#[test]
fn a_pod_deleted_before_it_ran_just_goes() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    assert_eq!(w.delete(30).settle(), "delete pod from api");
    assert_eq!(w.phase(), "Failed");
    assert!(w.plan().done);
}

#[test]
fn a_pod_that_is_gone_from_the_api_is_cleaned_up() {
    let mut w = World::new(pod("Always", vec![], vec![container("a")]));
    w.settle();
    w.observed.gone = true;
    w.pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(w.settle(), "stop a/0 within 0s\nremove sandbox 0\nunmount volumes");
    assert!(w.plan().done);
}

#[test]
fn a_pod_over_its_deadline_is_stopped_and_failed() {
    let mut p = pod("Always", vec![], vec![container("a")]);
    p.spec.as_mut().expect("spec").active_deadline_seconds = Some(60);
    let mut w = World::new(p);
    w.settle();
    assert_eq!(w.plan().requeue.expect("timer").duration_since(w.now).as_secs(), 60);
    w.obeys = None;
    w.pass(60).settle();
    assert_eq!(w.phase(), "Running", "not failed before it has stopped");
    w.exit("a", 143).settle();
    assert_eq!(w.summary(), "Failed DeadlineExceeded; a=Error(143) x0");
}

#[test]
fn a_new_image_in_the_spec_restarts_the_container() {
    let mut w = World::new(pod("Never", vec![], vec![container("a")]));
    w.settle();
    w.pod.spec.as_mut().expect("spec").containers[0].image = Some("img2".into());
    assert_eq!(w.settle(), "stop a/0 within 30s\nensure image img2 for a/1\nstart a/1");
}

#[test]
fn a_lost_sandbox_is_made_anew_and_initialization_runs_again() {
    let mut w = World::new(pod("Always", vec![container("i")], vec![container("a")]));
    w.settle();
    w.exit("i", 0).settle();
    w.observed.apply(Outcome::SandboxLost { attempt: 0 }, w.now);
    assert!(w.settle().starts_with("remove sandbox 0\nrun sandbox 1\nensure image img for i/1\nstart i/1"));
    assert!(w.exit("i", 0).settle().ends_with("start a/1"));
}

#[test]
fn after_a_restart_of_the_node_policy_decides_about_containers_that_died_with_it() {
    for (policy, expected, commands) in [
        ("Always", "Running; a=running x1 ready", "mount volumes\nrun sandbox 0\nensure image img for a/1\nstart a/1"),
        ("Never", "Failed; a=ContainerStatusUnknown(137) x0", ""),
    ] {
        let mut w = World::new(pod(policy, vec![], vec![container("a")]));
        w.settle();
        let status = w.plan().status;
        let mut again = World::new(w.pod.clone());
        again.pod.status = Some(status);
        again.observed = adopt(&again.pod, vec![], again.now);
        assert_eq!(again.settle(), commands);
        assert_eq!(again.summary(), expected, "{policy}");
    }
}

#[test]
fn a_node_that_shuts_down_leaves_statuses_as_they_are() {
    let mut w = World::new(pod("Never", vec![], vec![container("a")]));
    w.settle();
    let before = w.plan().status;
    w.observed.shutting_down = true;
    w.exit("a", 137);
    let plan = w.plan();
    assert_eq!((plan.commands, plan.status), (vec![], before));
}
