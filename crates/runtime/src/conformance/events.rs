//! Events are enough: nobody has to poll.

use std::time::Duration;

use futures::StreamExt;

use super::{Harness, Program, eventually};
use crate::RuntimeEvent;

pub async fn start_comes_before_exit_and_each_once(h: &Harness) {
    let mut events = h.runtime.events();
    let Some(mut container) = h.start(Program::ExitsWith(0)).await else { return };
    container.exit().await;
    h.runtime.stop_container(&container.id, Duration::from_secs(1)).await.expect("stopped");
    h.runtime.remove_container(&container.id).await.expect("removed");
    let Some(last) = h.start(Program::Sleeps).await else { return };
    let mut seen = Vec::new();
    eventually("the start of the last container", async {
        while let Some(event) = events.next().await {
            match event {
                RuntimeEvent::Started { container, pod_uid, .. } => {
                    assert_eq!(&*pod_uid, "uid-0");
                    seen.push(("started", container));
                }
                RuntimeEvent::Exited { container, sandbox, .. } => {
                    assert_eq!(sandbox, h.sandbox);
                    seen.push(("exited", container));
                }
                RuntimeEvent::Warning { .. } => {}
                RuntimeEvent::Resync => panic!("nothing was lost"),
            }
            if seen.last().is_some_and(|(_, container)| *container == last.id) {
                break;
            }
        }
    })
    .await;
    let expected = [("started", &container.id), ("exited", &container.id), ("started", &last.id)];
    assert_eq!(seen.iter().map(|(what, id)| (*what, id)).collect::<Vec<_>>(), expected);
}

pub async fn every_subscriber_gets_every_event(h: &Harness) {
    let (mut one, mut two) = (h.runtime.events(), h.runtime.events());
    let Some(mut container) = h.start(Program::ExitsWith(0)).await else { return };
    container.exit().await;
    for events in [&mut one, &mut two] {
        let first = eventually("an event", events.next()).await;
        assert!(matches!(first, Some(RuntimeEvent::Started { .. })), "{first:?}");
        let second = eventually("an event", events.next()).await;
        assert!(matches!(second, Some(RuntimeEvent::Exited { .. })), "{second:?}");
    }
}

pub async fn a_slow_subscriber_is_told_to_resync(h: &Harness) {
    let mut events = h.runtime.events();
    let Some(config) = h.config(Program::Sleeps).await else { return };
    for attempt in 0..=(crate::ledger::EVENTS_MAX as u32 / 2) {
        let config = crate::ContainerConfig { attempt, ..config.clone() };
        let container = h.create_with(config).await;
        container.start().await;
        h.runtime.remove_container(&container.id).await.expect("removed");
    }
    let first = eventually("an event", events.next()).await;
    assert!(matches!(first, Some(RuntimeEvent::Resync)), "{first:?}");
    let second = eventually("an event", events.next()).await;
    assert!(!matches!(second, Some(RuntimeEvent::Resync) | None), "it goes on after that: {second:?}");
}
