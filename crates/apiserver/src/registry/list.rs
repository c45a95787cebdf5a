//! Lists: whole or in chunks, always consistent with the one revision that they carry.

use std::{ops::Bound, sync::Arc};

use serde_json::json;
use skiff_api::Status;
use skiff_store::{Entry, Error, Key, ListRequest, Revision, Store};

use super::{Resource, filter::Filter, paging, paging::Continue};
use crate::http::{
    errors,
    query::{ListOptions, VersionMatch},
};

#[derive(Debug)]
pub(crate) struct Page {
    pub revision: Revision,
    pub entries: Vec<Arc<Entry>>,
    /// The token for the rest, when there is one.
    pub next: Option<String>,
    /// How many are left; known only without selectors.
    pub remaining: Option<usize>,
}

/// The least that is read from the store for one filtered chunk.
const SCAN_MIN: usize = 500;

pub(crate) async fn list(
    store: &dyn Store,
    resource: &Resource,
    filter: &Filter,
    options: &ListOptions,
) -> Result<Page, Status> {
    let token = options.continue_token.as_deref().map(Continue::decode).transpose()?;
    let start = match &token {
        Some(token) => Bound::Excluded(Key::new(format!("{}{}", resource.prefix(None), token.after))),
        None => Bound::Unbounded,
    };
    let at = match &token {
        Some(token) => token.rv,
        None => revision_to_read(store, options)?,
    };
    let request = ListRequest { prefix: filter.prefix.clone(), start, limit: options.limit, at };
    let found = if filter.is_everything() || options.limit == 0 {
        whole(store, resource, filter, request).await
    } else {
        scan(store, resource, filter, request).await
    };
    match (found, &token) {
        (Ok(page), _) => Ok(page),
        (Err(Error::Compacted { .. }), Some(token)) => Err(expired(token)),
        (Err(error), _) => Err(errors::of_store(error)),
    }
}

/// 410 as upstream has it: with a token to go on in the present state.
fn expired(token: &Continue) -> Status {
    let (mut status, fresh) = paging::expired(token);
    // The one error with list metadata; `http::errors` moves it to where clients look for it.
    status.details = json!({ "continue": fresh });
    status
}

/// Which revision a new list reads at, by the rules for `resourceVersion` and `resourceVersionMatch`.
pub(crate) fn revision_to_read(store: &dyn Store, options: &ListOptions) -> Result<Option<Revision>, Status> {
    let Some(asked) = options.resource_version.filter(|rv| *rv != 0) else { return Ok(None) };
    let current = store.revision();
    if asked > current {
        return Err(errors::too_large_revision(asked, current));
    }
    // Without a match, a limited list is exact, as upstream documents.
    let exact = match options.version_match {
        Some(VersionMatch::Exact) => true,
        Some(VersionMatch::NotOlderThan) => false,
        None => options.limit > 0,
    };
    Ok(exact.then_some(asked))
}

async fn whole(store: &dyn Store, resource: &Resource, filter: &Filter, request: ListRequest) -> Result<Page, Error> {
    let mut listing = store.list(request).await?;
    if !filter.is_everything() {
        listing.entries.retain(|e| filter.matches(resource, e));
    }
    let next = (listing.remaining > 0).then(|| token(resource, listing.revision, &listing.entries)).flatten();
    let remaining = next.is_some().then_some(listing.remaining);
    Ok(Page { revision: listing.revision, entries: listing.entries, next, remaining })
}

/// Reads chunk after chunk at one revision until enough entries match.
async fn scan(
    store: &dyn Store,
    resource: &Resource,
    filter: &Filter,
    mut request: ListRequest,
) -> Result<Page, Error> {
    let limit = request.limit;
    request.limit = limit.max(SCAN_MIN);
    let mut found = Vec::new();
    loop {
        let listing = store.list(request.clone()).await?;
        request.at = Some(listing.revision);
        let Some(last) = listing.entries.last().map(|e| e.key.clone()) else {
            return Ok(Page { revision: listing.revision, entries: found, next: None, remaining: None });
        };
        for entry in &listing.entries {
            if filter.matches(resource, entry) {
                // One more than the limit shows that there is a next chunk.
                if found.len() == limit {
                    let next = token(resource, listing.revision, &found);
                    return Ok(Page { revision: listing.revision, entries: found, next, remaining: None });
                }
                found.push(entry.clone());
            }
        }
        if listing.remaining == 0 {
            return Ok(Page { revision: listing.revision, entries: found, next: None, remaining: None });
        }
        request.start = Bound::Excluded(last);
    }
}

fn token(resource: &Resource, revision: Revision, entries: &[Arc<Entry>]) -> Option<String> {
    let last = &entries.last()?.key;
    let below = last.as_str().strip_prefix(resource.prefix(None).as_str())?;
    Some(Continue::new(Some(revision), below).encode())
}
