//! The suite that every store passes. A store's tests say only how to open it:
//!
//! ```ignore
//! struct Redb(tempfile::TempDir);
//! #[async_trait::async_trait]
//! impl skiff_store::conformance::Factory for Redb { /* … */ }
//! skiff_store::conformance!(Redb(tempfile::tempdir().unwrap()));
//! ```
//!
//! One `#[test]` per case comes out of it. The list below is the only one: a case that is not in it is dead code, and
//! one that is in it and not written does not compile.

mod lists;
mod random;
mod restarts;
mod watches;
mod writes;

use std::{ops::Bound, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use crate::{
    Committed, Draft, Error, Event, Expect, Key, ListRequest, Listing, Op, Revision, Store, Transaction, Watch,
    WatchItem, memory::Options,
};

/// Opens stores for the cases. Every case gets a factory of its own.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A store with these limits: empty the first time; after the store before was closed and dropped, with what
    /// that one held, if it is durable.
    async fn open(&self, options: Options) -> Arc<dyn Store>;

    /// Whether a store finds again what was acknowledged before.
    fn durable(&self) -> bool;
}

macro_rules! cases {
    (($d:tt) $($topic:ident { $($case:ident),+ $(,)? })+) => {
        /// Names a case; see [`run`].
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Case { $($($case),+),+ }

        /// Runs one case.
        ///
        /// # Panics
        /// When the store does not pass.
        pub async fn run(case: Case, factory: &dyn Factory) {
            let run = async { match case { $($(Case::$case => $topic::$case(factory).await),+),+ } };
            // A watch that never delivers would hang: no case takes more than a second or two.
            tokio::time::timeout(Duration::from_secs(60), run).await.expect("the case hangs");
        }

        /// Runs every case of the suite against the stores of `$factory` (an expression, evaluated for each case).
        #[macro_export]
        macro_rules! conformance {
            ($d factory:expr) => {
                $(mod $topic {
                    use super::*;
                    $(#[test]
                    fn $case() {
                        let factory = $d factory;
                        $crate::conformance::block_on(async {
                            $crate::conformance::run($crate::conformance::Case::$case, &factory).await
                        });
                    })+
                })+
            };
        }
    };
}

cases! { ($)
    writes {
        a_put_is_read_back_with_its_revision,
        every_transaction_takes_the_next_revision,
        expectations_are_checked,
        a_conflict_changes_nothing_and_shows_what_is,
        a_transaction_commits_wholly,
        a_delete_returns_the_final_object,
        deleting_what_is_absent_conflicts,
        a_check_takes_no_revision,
        oversized_and_repeated_writes_are_refused,
        of_concurrent_writers_one_wins,
        a_closed_store_refuses_writes,
    }
    lists {
        an_empty_list_has_a_revision,
        a_list_is_in_key_order_and_in_scope,
        a_start_outside_of_the_scope_is_harmless,
        pages_add_up,
        pages_at_one_revision_ignore_later_writes,
        a_list_at_a_compacted_or_future_revision_fails,
        history_limits_forget_the_oldest,
        count_follows,
    }
    watches {
        a_watch_sees_what_comes,
        a_watch_catches_up,
        catching_up_does_not_hit_the_bound,
        a_transaction_is_one_batch,
        prefixes_select,
        events_carry_the_previous_version,
        an_idle_watch_hears_of_progress,
        progress_comes_when_asked_for,
        a_slow_watch_ends_lagged,
        a_compacted_or_future_watch_fails_at_once,
        compaction_leaves_watches_alone,
        a_dropped_watch_frees_its_place,
        closing_ends_watches_after_their_events,
    }
    random {
        random_operations_agree_with_a_model,
        concurrent_watches_keep_their_guarantees,
    }
    restarts {
        acknowledged_writes_survive,
        the_revision_never_goes_backwards,
        a_watch_from_before_a_restart_is_compacted_or_complete,
    }
}

/// Runs a case on a runtime of its own.
///
/// # Panics
/// When there is no runtime to be had.
pub fn block_on(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives threads")
        .block_on(case);
}

// What the cases are written with.

fn key(path: &str) -> Key {
    Key::new(path)
}

fn draft(text: &str) -> Draft {
    Draft { bytes: Bytes::copy_from_slice(text.as_bytes()), revision_at: None }
}

fn put(path: &str, text: &str) -> Op {
    Op::Put(key(path), draft(text))
}

fn delete(path: &str) -> Op {
    Op::Delete(key(path), None)
}

async fn commit(store: &dyn Store, ops: Vec<Op>) -> Committed {
    store.transact(Transaction { expect: vec![], ops }).await.expect("an unconditional write commits")
}

async fn expecting(store: &dyn Store, path: &str, expect: Expect, ops: Vec<Op>) -> Result<Committed, Error> {
    store.transact(Transaction { expect: vec![(key(path), expect)], ops }).await
}

fn request(prefix: &str) -> ListRequest {
    ListRequest { prefix: key(prefix), start: Bound::Unbounded, limit: 0, at: None }
}

async fn list_at(store: &dyn Store, prefix: &str, at: Revision) -> Result<Listing, Error> {
    store.list(ListRequest { at: Some(at), ..request(prefix) }).await
}

async fn list(store: &dyn Store, prefix: &str) -> Listing {
    store.list(request(prefix)).await.expect("the current revision can be listed")
}

/// `a=1 b=2`, with the last segment of each key.
fn show(listing: &Listing) -> String {
    let one = |entry: &Arc<crate::Entry>| {
        let name = entry.key.as_str().rsplit('/').next().unwrap_or_default();
        format!("{name}={}", String::from_utf8_lossy(&entry.value))
    };
    listing.entries.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn watch(store: &dyn Store, prefix: &str, after: Revision) -> Watch {
    store.watch(key(prefix), after).expect("the revision can be watched from")
}

/// `put a=1 delete b=2`, or `progress 7`.
fn show_item(item: &WatchItem) -> String {
    let one = |event: &Event| {
        let verb = if matches!(event, Event::Delete { .. }) { "delete" } else { "put" };
        let name = event.entry().key.as_str().rsplit('/').next().unwrap_or_default();
        format!("{verb} {name}={}", String::from_utf8_lossy(&event.entry().value))
    };
    match item {
        WatchItem::Events(events) => events.iter().map(one).collect::<Vec<_>>().join(" "),
        WatchItem::Progress(revision) => format!("progress {revision}"),
    }
}

async fn next(watch: &mut Watch) -> String {
    show_item(&watch.next().await.expect("the watch goes on").expect("the watch goes on"))
}

async fn end(watch: &mut Watch) -> Error {
    let last = watch.next().await.expect("the end is said");
    assert!(watch.next().await.is_none(), "nothing comes after the error");
    last.expect_err("the watch ends")
}
