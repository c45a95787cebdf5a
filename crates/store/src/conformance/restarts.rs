//! What a durable store finds again; an ephemeral one begins anew, which the cases then expect.

use super::*;
use crate::FIRST_REVISION;

pub(super) async fn acknowledged_writes_survive(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("core/pods/a", "1"), put("core/pods/b", "1"), put("core/pods/c", "1")]).await;
    commit(&*store, vec![put("core/pods/b", "2"), delete("core/pods/c")]).await;
    let before = list(&*store, "").await;
    store.close().await;
    drop(store);
    let after = list(&*factory.open(Options::default()).await, "").await;
    if !factory.durable() {
        assert_eq!((after.entries.len(), after.revision), (0, FIRST_REVISION));
        return;
    }
    let content = |l: &Listing| -> Vec<(Key, Revision, Bytes)> {
        l.entries.iter().map(|e| (e.key.clone(), e.revision, e.value.clone())).collect()
    };
    assert_eq!(content(&after), content(&before));
}

pub(super) async fn the_revision_never_goes_backwards(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("core/pods/a", "1")]).await;
    // The last write leaves nothing behind but its revision.
    let last = commit(&*store, vec![delete("core/pods/a")]).await.revision;
    store.close().await;
    drop(store);
    let store = factory.open(Options::default()).await;
    let next = commit(&*store, vec![put("core/pods/a", "1")]).await.revision;
    assert!(next > if factory.durable() { last } else { FIRST_REVISION }, "{next} after {last}");
}

pub(super) async fn a_watch_from_before_a_restart_is_compacted_or_complete(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let early = commit(&*store, vec![put("core/pods/a", "1")]).await.revision;
    let last = commit(&*store, vec![put("core/pods/a", "2")]).await.revision;
    store.close().await;
    drop(store);
    if !factory.durable() {
        return;
    }
    let store = factory.open(Options::default()).await;
    match store.watch(key("core/pods/"), early) {
        Err(Error::Compacted { requested, oldest }) => assert!(requested == early && oldest <= last),
        Err(other) => panic!("{other}"),
        Ok(mut watch) => assert_eq!(next(&mut watch).await, "put a=2"),
    }
    let mut watch = watch(&*store, "core/pods/", last);
    assert_eq!(next(&mut watch).await, format!("progress {last}"));
    commit(&*store, vec![put("core/pods/a", "3")]).await;
    assert_eq!(next(&mut watch).await, "put a=3");
}
