//! Whatever happens, in whatever order.

mod world;

use proptest::prelude::*;
use skiff_lifecycle::{Outcome, ProbeKind, plan};
use world::{World, assert_invariants, container, pod, sidecar};

#[derive(Clone, Debug)]
enum Happening {
    Exit(usize, i32),
    Pass(i64),
    BadImage(bool),
    BadConfig(bool),
    SandboxLost,
    Liveness(usize, bool),
    Delete(i64),
    Gone,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (0usize..4, prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(c, code)| Happening::Exit(c, code)),
        6 => (1i64..700).prop_map(Happening::Pass),
        1 => any::<bool>().prop_map(Happening::BadImage),
        1 => any::<bool>().prop_map(Happening::BadConfig),
        1 => Just(Happening::SandboxLost),
        1 => (0usize..4, any::<bool>()).prop_map(|(c, ok)| Happening::Liveness(c, ok)),
        1 => (0i64..40).prop_map(Happening::Delete),
        1 => Just(Happening::Gone),
    ];
    prop::collection::vec(one, 0..40)
}

const NAMES: [&str; 4] = ["i", "s", "a", "b"];

fn happen(w: &mut World, what: Happening) {
    match what {
        Happening::Exit(at, code) if w.observed.newest(NAMES[at]).is_some_and(|r| r.running()) => {
            w.exit(NAMES[at], code);
        }
        Happening::Exit(..) => {}
        Happening::Pass(seconds) => {
            w.pass(seconds);
        }
        Happening::BadImage(bad) => w.bad_images = if bad { vec!["img".into()] } else { vec![] },
        Happening::BadConfig(bad) => w.bad_config = if bad { vec!["a".into()] } else { vec![] },
        Happening::SandboxLost => {
            if let Some(attempt) = w.observed.sandbox.current() {
                w.observed.apply(Outcome::SandboxLost { attempt }, w.now);
            }
        }
        Happening::Liveness(at, ok) => {
            let Some(attempt) = w.observed.newest(NAMES[at]).map(|r| r.attempt) else { return };
            let probe = Outcome::Probe { container: NAMES[at].into(), attempt, kind: ProbeKind::Liveness, ok };
            w.observed.apply(probe, w.now);
        }
        Happening::Delete(grace) => {
            w.delete(grace);
        }
        Happening::Gone => w.observed.gone = true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_pod_obeys_its_rules(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        with_init in any::<bool>(),
        what in happenings(),
    ) {
        let init = if with_init { vec![container("i"), sidecar("s")] } else { vec![] };
        let mut w = World::new(pod(policy, init, vec![container("a"), container("b")]));
        let mut terminal: Option<String> = None;
        for what in what {
            happen(&mut w, what);
            w.settle();
            assert_invariants(&w.observed);
            let first = w.plan();
            prop_assert!(first.commands.is_empty(), "the fixpoint has no commands");
            w.observed.status = Some(first.status.clone().into());
            prop_assert_eq!(&w.plan().status, &first.status, "planning again says the same");
            let phase = first.status.phase.clone().expect("a phase");
            if let Some(before) = &terminal {
                prop_assert_eq!(before, &phase, "a terminal phase is left");
            }
            if phase == "Succeeded" || phase == "Failed" {
                terminal = Some(phase);
                prop_assert!(!w.observed.containers.iter().any(|r| r.running()), "a terminal pod runs nothing");
            }
            if policy == "Never" {
                for name in ["a", "b"] {
                    let starts = w.history.iter().filter(|c| c.starts_with(&format!("start {name}/"))).count();
                    let failed = w.history.iter().filter(|c| **c == format!("start {name}/0")).count();
                    prop_assert_eq!(starts, failed, "a Never container is never started again");
                }
            }
        }
        // However it went: a deleted pod ends with nothing left.
        w.delete(30).settle();
        let end = plan(&w.pod, &w.observed, w.now);
        prop_assert!(end.done, "{:?}", w.observed);
    }
}
