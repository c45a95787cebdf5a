//! One request on its way through the pipeline: who asks, what for, and with which options.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use skiff_api::{
    Kind,
    patch::managed_fields::{self, Writer},
};
use skiff_store::Key;
use tokio_util::sync::CancellationToken;

use crate::{
    authn::UserInfo,
    http::{
        negotiate::Accepted,
        query::{Query, WriteOptions},
        route::{Target, Verb},
    },
    registry::Resource,
    server::ApiServer,
};

pub(crate) struct Context {
    pub api: Arc<ApiServer>,
    pub user: UserInfo,
    pub target: Target,
    pub verb: Verb,
    pub query: Query,
    pub options: WriteOptions,
    pub accepted: Accepted,
    pub now: Timestamp,
    /// Who owns the fields that are written: `fieldManager`, or the client's program as the user agent names it.
    pub manager: String,
    /// Ends the streams of this caller.
    pub closing: CancellationToken,
    /// `Warning:` headers to send, in order, each once.
    warnings: Mutex<Vec<String>>,
}

/// More warnings than this are dropped, as upstream does.
const WARNINGS_MAX: usize = 50;

impl Context {
    #[expect(clippy::too_many_arguments, reason = "the one constructor, called once")]
    pub(crate) fn new(
        api: Arc<ApiServer>,
        user: UserInfo,
        target: Target,
        verb: Verb,
        query: Query,
        options: WriteOptions,
        accepted: Accepted,
        closing: CancellationToken,
        headers: &HeaderMap,
    ) -> Self {
        let manager = {
            let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
            managed_fields::manager_name(options.field_manager.as_deref().unwrap_or(""), agent)
        };
        let now = crate::clock::now();
        Self { api, user, target, verb, query, options, accepted, now, manager, closing, warnings: Mutex::default() }
    }

    /// The same request about another object: a binding is a write to a pod.
    pub(crate) fn with_target(&self, target: Target) -> Self {
        Self {
            api: self.api.clone(),
            user: self.user.clone(),
            target,
            verb: self.verb,
            query: self.query.clone(),
            options: self.options.clone(),
            accepted: self.accepted,
            now: self.now,
            manager: self.manager.clone(),
            closing: self.closing.clone(),
            warnings: Mutex::new(self.warnings()),
        }
    }

    /// Who writes, for the record of who owns which field. `now` as [`crate::object::time`] writes it.
    pub(crate) fn writer<'w>(&'w self, now: &'w str) -> Writer<'w> {
        // Fields are recorded as they are stored: the version goes with them.
        let resource = self.resource();
        let api_version =
            if resource.kind.hooks.convert.is_some() { &resource.stored_api_version } else { &resource.api_version };
        let subresource = self.target.subresource.map_or("", |s| s.name());
        Writer { manager: &self.manager, api_version, subresource, now }
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.target.resource
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.target.resource.kind
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref()
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        self.resource().key(self.namespace(), name)
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }
}
