//! Which objects a list or a watch is about.

use skiff_api::{
    Status,
    selector::{FieldSelector, LabelSelector},
};
use skiff_store::{Entry, Key};

use super::{Resource, memo::memo};
use crate::http::query::ListOptions;

#[derive(Debug)]
pub(crate) struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
    /// What the store is asked for: one object when the selector and the path say which.
    pub prefix: Key,
}

impl Filter {
    pub(crate) fn new(
        resource: &Resource,
        namespace: Option<&str>,
        name: Option<&str>,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let labels = LabelSelector::parse(options.label_selector.as_deref().unwrap_or(""))?;
        let fields = FieldSelector::parse(options.field_selector.as_deref().unwrap_or(""))?;
        fields.check(resource.kind.hooks.field_labels)?;
        let namespace = namespace.or_else(|| fields.required_value("metadata.namespace").filter(|n| !n.is_empty()));
        let name = name.or_else(|| fields.required_value("metadata.name").filter(|n| !n.is_empty()));
        let prefix = match (name, namespace) {
            (Some(name), _) if !resource.kind.namespaced => resource.key(None, name),
            (Some(name), Some(ns)) => resource.key(Some(ns), name),
            _ => resource.prefix(namespace),
        };
        Ok(Self { labels, fields, prefix })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub(crate) fn matches(&self, resource: &Resource, entry: &Entry) -> bool {
        if self.is_everything() {
            return true;
        }
        let memo = memo(entry);
        if !self.labels.matches_by(|key| memo.labels.get(key).map(String::as_str)) {
            return false;
        }
        if self.fields.is_everything() {
            return true;
        }
        let (namespace, name) = resource.split_key(&entry.key);
        let matches = |own: &[(&'static str, String)]| {
            self.fields.matches_by(|field| match field {
                "metadata.name" => Some(name),
                "metadata.namespace" => namespace,
                _ => own.iter().find(|(k, _)| *k == field).map(|(_, v)| v.as_str()),
            })
        };
        let only_names = self.fields.terms().iter().all(|t| t.field.starts_with("metadata."));
        if only_names { matches(&[]) } else { resource.with_fields(memo, entry, matches) }
    }
}
