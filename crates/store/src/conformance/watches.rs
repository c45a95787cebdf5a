//! Watches: what they deliver, from where, and how they end.

use super::*;

pub(super) async fn a_watch_sees_what_comes(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let at = commit(&*store, vec![put("core/pods/before", "1")]).await.revision;
    let mut watch = watch(&*store, "core/pods/", at);
    assert_eq!(next(&mut watch).await, format!("progress {at}"), "it says that it has caught up");
    commit(&*store, vec![put("core/pods/a", "1")]).await;
    commit(&*store, vec![put("core/secrets/a", "1")]).await;
    commit(&*store, vec![put("core/pods/a", "2")]).await;
    commit(&*store, vec![delete("core/pods/a")]).await;
    for expected in ["put a=1", "put a=2", "delete a=2"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

pub(super) async fn a_watch_catches_up(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    for n in 2..=6 {
        commit(&*store, vec![put("core/pods/a", &n.to_string()), put("core/secrets/a", "1")]).await;
    }
    let mut late = watch(&*store, "core/pods/", 4);
    commit(&*store, vec![put("core/pods/a", "7")]).await;
    for expected in ["put a=5", "put a=6", "progress 6", "put a=7"] {
        assert_eq!(next(&mut late).await, expected);
    }
    let mut from_zero = watch(&*store, "core/pods/", 0);
    assert_eq!(next(&mut from_zero).await, "put a=2", "0 is before the first write");
}

pub(super) async fn catching_up_does_not_hit_the_bound(factory: &dyn Factory) {
    let store = factory.open(Options { watch_batches_max: 4, ..Options::default() }).await;
    for n in 0..50 {
        commit(&*store, vec![put("core/pods/a", &n.to_string())]).await;
    }
    let mut watch = watch(&*store, "core/pods/", 1);
    for n in 50..54 {
        commit(&*store, vec![put("core/pods/a", &n.to_string())]).await;
    }
    for n in 0..50 {
        assert_eq!(next(&mut watch).await, format!("put a={n}"));
    }
    assert_eq!(next(&mut watch).await, "progress 51");
    for n in 50..54 {
        assert_eq!(next(&mut watch).await, format!("put a={n}"));
    }
}

pub(super) async fn a_transaction_is_one_batch(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let mut live = watch(&*store, "core/pods/", 1);
    let ops = vec![put("core/pods/b", "1"), put("core/secrets/x", "1"), put("core/pods/a", "1")];
    commit(&*store, ops).await;
    commit(&*store, vec![delete("core/pods/a"), delete("core/pods/b")]).await;
    let mut late = watch(&*store, "core/pods/", 1);
    assert_eq!(next(&mut live).await, "progress 1");
    for watch in [&mut live, &mut late] {
        assert_eq!(next(watch).await, "put b=1 put a=1", "in the order of the operations");
        assert_eq!(next(watch).await, "delete a=1 delete b=1");
    }
}

pub(super) async fn prefixes_select(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let prefixes = ["", "core/", "core/pods/", "core/pods/ns/", "core/pods/ns/a", "core/pods/n/", "core/pods/ns"];
    let mut watches: Vec<_> = prefixes.iter().map(|p| watch(&*store, p, 1)).collect();
    commit(&*store, vec![put("core/pods/ns/a", "1"), put("core/pods/ns/aa", "1"), put("core/pods/nsx/a", "1")]).await;
    commit(&*store, vec![put("apps/deployments/ns/a", "2")]).await;
    commit(&*store, vec![put("core/pods/ns/a", "3")]).await;
    let last = commit(&*store, vec![put("core/pods/n/e", "4"), put("core/pods/ns", "4")]).await.revision;
    store.announce_progress();
    let expected = [
        "put a=1 put aa=1 put a=1, put a=2, put a=3, put e=4 put ns=4",
        "put a=1 put aa=1 put a=1, put a=3, put e=4 put ns=4",
        "put a=1 put aa=1 put a=1, put a=3, put e=4 put ns=4",
        "put a=1 put aa=1, put a=3",
        "put a=1, put a=3",
        "put e=4",
        "put ns=4",
    ];
    for ((prefix, watch), expected) in prefixes.iter().zip(&mut watches).zip(expected) {
        let mut seen = vec![];
        loop {
            let item = next(watch).await;
            match item.strip_prefix("progress ") {
                Some(revision) if revision == last.to_string() => break,
                Some(_) => {}
                None => seen.push(item),
            }
        }
        assert_eq!(seen.join(", "), expected, "{prefix:?}");
    }
}

pub(super) async fn events_carry_the_previous_version(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let mut watch = watch(&*store, "core/pods/", 1);
    commit(&*store, vec![put("core/pods/a", "1")]).await;
    commit(&*store, vec![put("core/pods/a", "2")]).await;
    commit(&*store, vec![delete("core/pods/a")]).await;
    commit(&*store, vec![put("core/pods/a", "3")]).await;
    let mut seen = vec![];
    while seen.len() < 4 {
        let Some(Ok(WatchItem::Events(events))) = watch.next().await else { continue };
        let (previous, deleted) = match &events[0] {
            Event::Put { previous, .. } => (previous.clone(), false),
            Event::Delete { previous, .. } => (Some(previous.clone()), true),
        };
        seen.push((previous.map(|p| p.value.clone()), events[0].entry().revision, deleted));
    }
    let value = |text: &'static str| Some(Bytes::from(text));
    assert_eq!(seen, [(None, 2, false), (value("1"), 3, false), (value("2"), 4, true), (None, 5, false)]);
}

pub(super) async fn an_idle_watch_hears_of_progress(factory: &dyn Factory) {
    let store = factory.open(Options { progress: 10, ..Options::default() }).await;
    assert_eq!(store.progress(), 10);
    let mut idle = watch(&*store, "core/pods/", 1);
    assert_eq!(next(&mut idle).await, "progress 1");
    for _ in 0..25 {
        commit(&*store, vec![put("core/secrets/a", "1")]).await;
    }
    let progress = next(&mut idle).await;
    let revision: Revision = progress.strip_prefix("progress ").and_then(|n| n.parse().ok()).expect("progress");
    assert!((11..=26).contains(&revision), "{progress}");
}

pub(super) async fn progress_comes_when_asked_for(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let mut watch = watch(&*store, "core/pods/", 1);
    assert_eq!(next(&mut watch).await, "progress 1");
    commit(&*store, vec![put("core/pods/a", "1")]).await;
    let at = commit(&*store, vec![put("core/secrets/a", "1")]).await.revision;
    store.announce_progress();
    assert_eq!(next(&mut watch).await, "put a=1", "what happened before comes before");
    assert_eq!(next(&mut watch).await, format!("progress {at}"));
}

pub(super) async fn a_slow_watch_ends_lagged(factory: &dyn Factory) {
    let store = factory.open(Options { watch_batches_max: 4, ..Options::default() }).await;
    let mut slow = watch(&*store, "core/pods/", 1);
    let mut elsewhere = watch(&*store, "core/secrets/", 1);
    for _ in 0..5 {
        commit(&*store, vec![put("core/pods/a", "1")]).await;
    }
    assert_eq!(store.watch_count(), 1, "its place is free at once");
    assert_eq!(next(&mut slow).await, "progress 1");
    let error = end(&mut slow).await;
    assert!(matches!(error, Error::Lagged { limit: 4 }), "{error:?}");
    // Progress alone is no reason to end.
    for _ in 0..10 {
        store.announce_progress();
    }
    assert_eq!(next(&mut elsewhere).await, "progress 1");
    assert_eq!(next(&mut elsewhere).await, "progress 6");
}

pub(super) async fn a_compacted_or_future_watch_fails_at_once(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    for n in 2..=8 {
        commit(&*store, vec![put("core/pods/a", &n.to_string())]).await;
    }
    store.compact(5).await.expect("5 has happened");
    let gone = store.watch(key("core/pods/"), 4).map(|_| ());
    assert!(matches!(gone, Err(Error::Compacted { requested: 4, oldest: 5 })), "{gone:?}");
    let future = store.watch(key("core/pods/"), 9).map(|_| ());
    assert!(matches!(future, Err(Error::Future { requested: 9, current: 8 })), "{future:?}");
    let mut oldest = watch(&*store, "core/pods/", 5);
    assert_eq!(next(&mut oldest).await, "put a=6");
}

pub(super) async fn compaction_leaves_watches_alone(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    for n in 2..=6 {
        commit(&*store, vec![put("core/pods/a", &n.to_string())]).await;
    }
    let mut watch = watch(&*store, "core/pods/", 3);
    commit(&*store, vec![put("core/pods/a", "7")]).await;
    store.compact(7).await.expect("7 has happened");
    commit(&*store, vec![put("core/pods/a", "8")]).await;
    store.compact(8).await.expect("8 has happened");
    for expected in ["put a=4", "put a=5", "put a=6", "progress 6", "put a=7", "put a=8"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

pub(super) async fn a_dropped_watch_frees_its_place(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let one = watch(&*store, "core/pods/", 1);
    let two = watch(&*store, "core/pods/", 1);
    let single = watch(&*store, "core/pods/a", 1);
    assert_eq!(store.watch_count(), 3);
    drop(one);
    assert_eq!(store.watch_count(), 2);
    drop((two, single));
    assert_eq!(store.watch_count(), 0);
}

pub(super) async fn closing_ends_watches_after_their_events(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let mut watch = watch(&*store, "core/pods/", 1);
    commit(&*store, vec![put("core/pods/a", "1")]).await;
    store.close().await;
    assert_eq!(next(&mut watch).await, "progress 1");
    assert_eq!(next(&mut watch).await, "put a=1");
    assert!(matches!(end(&mut watch).await, Error::Closed));
    assert!(matches!(store.watch(key("core/pods/"), 1).map(|_| ()), Err(Error::Closed)));
}
