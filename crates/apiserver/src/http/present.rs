//! Objects, lists and events in the form that the client asked for. Plain JSON is the stored bytes, put together
//! without being read.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::{Status, protobuf};
use skiff_store::Revision;

use super::{
    errors,
    negotiate::{Accepted, Format, Shape},
    query::Query,
};
use crate::{
    encode,
    registry::{self, Resource, list::Page},
};

/// Which objects go into the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

pub(crate) struct Presenter<'r> {
    resource: &'r Resource,
    pub accepted: Accepted,
    include: Include,
    now: Timestamp,
}

impl<'r> Presenter<'r> {
    pub(crate) fn new(
        resource: &'r Resource,
        accepted: Accepted,
        query: &Query,
        now: Timestamp,
    ) -> Result<Self, Status> {
        let include = match query.text("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => return Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        };
        Ok(Self { resource, accepted, include, now })
    }

    /// One stored object.
    pub(crate) fn object(&self, stored: &Bytes) -> Result<Bytes, Status> {
        let json = match self.accepted.shape {
            Shape::Object => self.resource.serve(stored)?,
            _ => encode::json(&self.shaped(stored, None)?),
        };
        self.accepted.format.transcode(json)
    }

    fn shaped(&self, stored: &Bytes, revision: Option<Revision>) -> Result<Value, Status> {
        let object = registry::parse(&self.resource.serve(stored)?)?;
        if self.accepted.shape == Shape::Metadata {
            return Ok(partial(object));
        }
        let version = revision.map_or(object["metadata"]["resourceVersion"].clone(), |r| r.to_string().into());
        let row = self.row(object);
        Ok(self.table(json!({ "resourceVersion": version }), vec![row]))
    }

    pub(crate) fn list(&self, page: &Page) -> Result<Bytes, Status> {
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if let Some(token) = &page.next {
            metadata["continue"] = json!(token);
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        let json = match self.accepted.shape {
            Shape::Object => self.plain_list(page, &metadata)?,
            Shape::Metadata => self.partial_list(page, metadata)?,
            Shape::Table => {
                let mut rows = Vec::with_capacity(page.entries.len());
                for entry in &page.entries {
                    rows.push(self.row(registry::parse(&self.resource.serve(&entry.value)?)?));
                }
                encode::json(&self.table(metadata, rows))
            }
        };
        self.accepted.format.transcode(json)
    }

    /// Concatenates what is stored.
    fn plain_list(&self, page: &Page, metadata: &Value) -> Result<Bytes, Status> {
        let kind = &self.resource.kind;
        let size: usize = page.entries.iter().map(|e| e.value.len() + 1).sum();
        let mut out = Vec::with_capacity(size + 256);
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
            Value::from(kind.list_kind()),
            Value::from(kind.api_version()),
        );
        out.extend_from_slice(head.as_bytes());
        for (i, entry) in page.entries.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            let (open, rest) = self.resource.serve_item(&entry.value)?;
            out.extend_from_slice(open);
            out.extend_from_slice(&rest);
        }
        out.extend_from_slice(b"]}");
        Ok(out.into())
    }

    fn partial_list(&self, page: &Page, metadata: Value) -> Result<Bytes, Status> {
        let mut items = Vec::with_capacity(page.entries.len());
        for entry in &page.entries {
            items.push(partial(registry::parse(&entry.value)?));
        }
        Ok(encode::json(&json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items,
        })))
    }

    /// One event of a watch, with its newline.
    pub(crate) fn event(
        &self,
        kind: &str,
        stored: &Bytes,
        revision: Revision,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let object = match self.accepted.shape {
            Shape::Object => self.resource.serve(stored)?,
            _ => encode::json(&self.shaped(stored, Some(revision))?),
        };
        self.frame(kind, &object, out)
    }

    fn frame(&self, kind: &str, object: &Bytes, out: &mut Vec<u8>) -> Result<(), Status> {
        match self.accepted.format {
            Format::Protobuf => out.extend(protobuf::watch_frame(kind, &registry::parse(object)?)?),
            // YAML has no frames: watches are JSON for those who ask for it.
            Format::Json | Format::Yaml => frame(kind, object, out),
        }
        Ok(())
    }

    /// The event that ends a watch.
    pub(crate) fn error(&self, status: &Status, out: &mut Vec<u8>) {
        let object = encode::json(&errors::to_json(status));
        if self.frame("ERROR", &object, out).is_err() {
            frame("ERROR", &object, out);
        }
    }

    /// The media type of a watch.
    pub(crate) fn watch_content_type(&self) -> &'static str {
        match self.accepted.format {
            Format::Protobuf => protobuf::WATCH_MEDIA_TYPE,
            Format::Json | Format::Yaml => Format::Json.content_type(),
        }
    }

    /// A bookmark: an object of the kind with nothing but a revision.
    pub(crate) fn bookmark(&self, revision: Revision, initial_end: bool, out: &mut Vec<u8>) -> Result<(), Status> {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let kind = &self.resource.kind;
        let object = match self.accepted.shape {
            Shape::Object => json!({ "kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata }),
            Shape::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            Shape::Table => {
                let carrier = json!({ "kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata });
                let row = json!({ "cells": [], "object": partial(carrier) });
                self.table(json!({ "resourceVersion": revision.to_string() }), vec![row])
            }
        };
        self.frame("BOOKMARK", &encode::json(&object), out)
    }

    fn row(&self, object: Value) -> Value {
        let cells = (self.resource.kind.hooks.row)(&object, self.now);
        match self.include {
            Include::None => json!({ "cells": cells }),
            Include::Metadata => json!({ "cells": cells, "object": partial(object) }),
            Include::Object => json!({ "cells": cells, "object": object }),
        }
    }

    fn table(&self, metadata: Value, rows: Vec<Value>) -> Value {
        let columns = self.resource.kind.hooks.columns.iter().map(|c| {
            json!({
                "name": c.name, "type": c.column_type, "format": c.format,
                "description": c.description, "priority": c.priority,
            })
        });
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": columns.collect::<Vec<_>>(), "rows": rows,
        })
    }
}

fn partial(mut object: Value) -> Value {
    let metadata = object["metadata"].take();
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
}

/// `{"type":"ADDED","object":…}` and a newline.
fn frame(kind: &str, object: &[u8], out: &mut Vec<u8>) {
    out.reserve(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
