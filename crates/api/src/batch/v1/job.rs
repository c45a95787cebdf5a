//! Jobs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Hooks;
use crate::apps::v1::workload::{self, immutable, must_match, not_negative};
use crate::core::v1::pod_spec::{self, one_of};
use crate::core::v1::pod_status::condition;
use crate::field::{FieldError, FieldErrors, Path};
use crate::names;
use crate::object::{
    Object, at, child, default as default_to, each, existing, flag, get, has, int, items, keep_status, name, object,
    same, text,
};
use crate::selector::{LabelSelector, validate_selector};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create,
    prepare_update: keep_status,
    validate,
    validate_update,
    validate_status,
    warnings: workload::template_warnings,
    columns: &[
        Column::NAME,
        Column::new("Status", "string").about("Whether it runs, or how it ended."),
        Column::new("Completions", "string").about("Pods that succeeded, of how many."),
        Column::new("Duration", "string").about("How long it took, or has taken."),
        Column::AGE,
        Column::new("Containers", "string").wide(),
        Column::new("Images", "string").wide(),
        Column::new("Selector", "string").wide(),
    ],
    row,
    fields: |job| vec![("status.successful", int(get(job, "status"), "succeeded").unwrap_or(0).to_string())],
    field_labels: &["status.successful"],
    ..Hooks::GENERIC
};

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// As older clients know them.
const LEGACY_UID_LABEL: &str = "controller-uid";
const LEGACY_NAME_LABEL: &str = "job-name";
const INDEXES_MAX: i64 = 100_000;

fn default(job: &mut Value) {
    let labels = workload::template_labels(get(job, "spec")).clone();
    if let Some(spec) = object(job, "spec") {
        default_spec(spec);
        default_to(spec, "suspend", false);
    }
    if labels.as_object().is_some_and(|l| !l.is_empty())
        && let Some(own) = object(job, "metadata").and_then(|m| child(m, "labels"))
        && own.is_empty()
        && let Value::Object(labels) = labels
    {
        *own = labels;
    }
}

/// Of a Job.
fn default_spec(spec: &mut Object) {
    let unset = |spec: &Object, key: &str| spec.get(key).is_none_or(Value::is_null);
    if unset(spec, "completions") && unset(spec, "parallelism") {
        default_to(spec, "completions", 1);
    }
    default_to(spec, "parallelism", 1);
    let limit = if unset(spec, "backoffLimitPerIndex") { 6 } else { i64::from(i32::MAX) };
    default_to(spec, "backoffLimit", limit);
    default_to(spec, "completionMode", "NonIndexed");
    let replace = if unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    default_to(spec, "podReplacementPolicy", replace);
    default_to(spec, "manualSelector", false);
    default_failure_policy(spec);
    workload::default_template(spec);
}

/// What a job template of a CronJob shares with a Job; the rest is filled in when a Job is made of it.
pub(crate) fn default_template_spec(spec: &mut Object) {
    default_failure_policy(spec);
    workload::default_template(spec);
}

fn default_failure_policy(spec: &mut Object) {
    if let Some(policy) = existing(spec, "podFailurePolicy") {
        for rule in each(policy, "rules") {
            each(rule, "onPodConditions").for_each(|pattern| default_to(pattern, "status", "True"));
        }
    }
}

/// The selector and the labels that tie pods to this job and to no other; `metadata.uid` is set already.
fn prepare_create(job: &mut Value) {
    crate::object::drop_status(job);
    let (own_name, uid) = (name(job).to_owned(), text(get(job, "metadata"), "uid").to_owned());
    if flag(get(job, "spec"), "manualSelector") {
        return;
    }
    let Some(spec) = object(job, "spec") else { return };
    if let Some(labels) = child(spec, "template").and_then(|t| child(t, "metadata")).and_then(|m| child(m, "labels")) {
        for (key, value) in
            [(LEGACY_NAME_LABEL, &own_name), (NAME_LABEL, &own_name), (LEGACY_UID_LABEL, &uid), (UID_LABEL, &uid)]
        {
            labels.entry(key).or_insert_with(|| value.as_str().into());
        }
    }
    if let Some(labels) = child(spec, "selector").and_then(|s| child(s, "matchLabels")) {
        labels.entry(UID_LABEL).or_insert_with(|| uid.into());
    }
}

fn validate(job: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(job, "spec");
    let at = Path::new("spec");
    generated_selector(job, &mut out);
    validate_spec(spec, &at, &mut out);
    let selector = get(spec, "selector");
    if selector.is_null() {
        out.push(FieldError::required(&at.child("selector"), ""));
    } else {
        validate_selector(selector, &at.child("selector"), &mut out);
    }
    must_match(&LabelSelector::from_object(selector), spec, &at, &mut out);
    if text(spec, "completionMode") == "Indexed"
        && let Some(completions) = int(spec, "completions").filter(|c| *c > 0)
    {
        let host = format!("{}-{}", name(job), completions - 1);
        if !names::dns_label(&host).is_empty() {
            let message = format!("will not able to create pod with invalid DNS label: {host}");
            out.push(FieldError::invalid("metadata.name", name(job), message));
        }
    }
    out
}

fn generated_selector(job: &Value, out: &mut FieldErrors) {
    let spec = get(job, "spec");
    if flag(spec, "manualSelector") || !has(spec, "selector") {
        return;
    }
    let uid = text(get(job, "metadata"), "uid");
    let expected = [(LEGACY_UID_LABEL, uid), (LEGACY_NAME_LABEL, name(job)), (UID_LABEL, uid), (NAME_LABEL, name(job))];
    let labels = workload::template_labels(spec);
    let path = Path::new("spec");
    let at_template = path.child("template");
    let at_metadata = at_template.child("metadata");
    for (key, value) in expected {
        let actual = text(labels, key);
        let at = at_metadata.child("labels");
        if !has(labels, key) {
            out.push(FieldError::required(&at.key(key), format!("must be '{value}'")));
        } else if actual != value {
            out.push(FieldError::invalid(&at.key(key), actual, format!("must be '{value}'")));
        }
    }
    let selector = LabelSelector::from_object(get(spec, "selector"));
    if !selector.matches_by(|key| expected.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)) {
        let message = "`selector` not auto-generated";
        out.push(FieldError::invalid(&path.child("selector"), get(spec, "selector").clone(), message));
    }
}

/// Of a Job and of a CronJob's template.
pub(crate) fn validate_spec(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    const COUNTS: [&str; 7] = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    not_negative(spec, &COUNTS, at, out);
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        out.push(FieldError::required(&at.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    let indexed = match text(spec, "completionMode") {
        "Indexed" => true,
        "" | "NonIndexed" => false,
        other => {
            let modes = ["NonIndexed", "Indexed"];
            return out.push(FieldError::not_supported(&at.child("completionMode"), other, &modes));
        }
    };
    if indexed {
        index_limits(spec, at, out);
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(n) = int(spec, key) {
                out.push(FieldError::invalid(&at.child(key), n, "requires indexed completion mode"));
            }
        }
        if has(spec, "successPolicy") {
            let value = get(spec, "successPolicy").clone();
            out.push(FieldError::invalid(&at.child("successPolicy"), value, "requires indexed completion mode"));
        }
    }
    failure_policy(spec, &at.child("podFailurePolicy"), out);
    if let Some(policy) = get(spec, "podReplacementPolicy").as_str() {
        let supported: &[&str] =
            if has(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !supported.contains(&policy) {
            out.push(FieldError::not_supported(&at.child("podReplacementPolicy"), policy, supported));
        }
    }
    template(spec, at, out);
}

fn index_limits(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let completions = int(spec, "completions");
    if completions.is_none() {
        out.push(FieldError::required(&at.child("completions"), "when completion mode is Indexed"));
    }
    if let Some(parallelism) = int(spec, "parallelism").filter(|p| *p > INDEXES_MAX) {
        let message = format!("must be less than or equal to {INDEXES_MAX} when completion mode is Indexed");
        out.push(FieldError::invalid(&at.child("parallelism"), parallelism, message));
    }
    if let Some(failed) = int(spec, "maxFailedIndexes") {
        if completions.is_some_and(|c| failed > c) {
            let message = "must be less than or equal to completions";
            out.push(FieldError::invalid(&at.child("maxFailedIndexes"), failed, message));
        }
        if failed > INDEXES_MAX {
            let message = format!("must be less than or equal to {INDEXES_MAX}");
            out.push(FieldError::invalid(&at.child("maxFailedIndexes"), failed, message));
        }
    }
}

fn template(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let at_template = at.child("template");
    pod_spec::validate_template(get(spec, "template"), &at_template, out);
    let policy = text(get(get(spec, "template"), "spec"), "restartPolicy");
    let at_spec = at_template.child("spec");
    let at_policy = at_spec.child("restartPolicy");
    match policy {
        "" | "Always" => {
            out.push(FieldError::required(&at_policy, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if has(spec, "podFailurePolicy") => {
            let message = "only \"Never\" is supported when podFailurePolicy is specified";
            out.push(FieldError::invalid(&at_policy, policy, message));
        }
        "OnFailure" | "Never" => {}
        other => out.push(FieldError::not_supported(&at_policy, other, &["OnFailure", "Never"])),
    }
}

fn failure_policy(spec: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    let rules = items(get(spec, "podFailurePolicy"), "rules");
    let at_rules = at.child("rules");
    if rules.len() > 20 {
        out.push(FieldError::too_many(&at_rules, rules.len(), 20));
    }
    let pod_spec = get(get(spec, "template"), "spec");
    let containers: BTreeSet<&str> = items(pod_spec, "containers")
        .iter()
        .chain(items(pod_spec, "initContainers"))
        .map(|c| text(c, "name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        let at = at_rules.index(i);
        match text(rule, "action") {
            "" => {
                let message = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                out.push(FieldError::required(&at.child("action"), message));
            }
            "FailIndex" if !has(spec, "backoffLimitPerIndex") => {
                let message = "requires the backoffLimitPerIndex to be set";
                out.push(FieldError::invalid(&at.child("action"), "FailIndex", message));
            }
            _ => one_of(rule, "action", &["Count", "FailIndex", "FailJob", "Ignore"], &at, out),
        }
        let codes = get(rule, "onExitCodes");
        if !codes.is_null() {
            exit_codes(codes, &containers, &at.child("onExitCodes"), out);
        }
        let conditions = items(rule, "onPodConditions");
        for (j, pattern) in conditions.iter().enumerate() {
            let list = at.child("onPodConditions");
            let at = list.index(j);
            let kind = text(pattern, "type");
            crate::field::invalid_each(out, &at.child("type"), kind, names::qualified_name(kind));
            one_of(pattern, "status", &["False", "True", "Unknown"], &at, out);
        }
        match (codes.is_null(), conditions.is_empty()) {
            (false, false) => {
                let message = "specifying both OnExitCodes and OnPodConditions is not supported";
                out.push(FieldError::invalid_omitted(&at, message));
            }
            (true, true) => {
                let message = "specifying one of OnExitCodes and OnPodConditions is required";
                out.push(FieldError::invalid_omitted(&at, message));
            }
            _ => {}
        }
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, at: &Path<'_>, out: &mut FieldErrors) {
    one_of(codes, "operator", &["In", "NotIn"], at, out);
    if let Some(container) = get(codes, "containerName").as_str()
        && !containers.contains(container)
    {
        let message = "must be one of the container or initContainer names in the pod template";
        out.push(FieldError::invalid(&at.child("containerName"), container, message));
    }
    let values = items(codes, "values");
    let at_values = at.child("values");
    if values.is_empty() {
        out.push(FieldError::invalid(&at_values, values.to_vec(), "at least one value is required"));
    } else if values.len() > 255 {
        out.push(FieldError::too_many(&at_values, values.len(), 255));
    }
    let mut seen = BTreeSet::new();
    let mut ordered = true;
    let mut last = i64::MIN;
    for (i, value) in values.iter().enumerate() {
        let code = value.as_i64().unwrap_or(0);
        if code == 0 && text(codes, "operator") == "In" {
            out.push(FieldError::invalid(&at_values.index(i), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            out.push(FieldError::duplicate(&at_values.index(i), code));
        }
        ordered &= code >= last;
        last = code;
    }
    if !ordered {
        out.push(FieldError::invalid(&at_values, values.to_vec(), "must be ordered"));
    }
}

fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (spec, old_spec) = (get(new, "spec"), get(old, "spec"));
    let at = Path::new("spec");
    let (completions, old_completions) = (get(spec, "completions"), get(old_spec, "completions"));
    if !same(completions, old_completions) {
        let at = at.child("completions");
        if text(spec, "completionMode") != "Indexed" {
            out.push(FieldError::immutable(&at, completions.clone()));
        } else if completions != get(spec, "parallelism") && !completions.is_null() {
            let message = "can only be modified in tandem with spec.parallelism";
            out.push(FieldError::invalid(&at, completions.clone(), message));
        }
    }
    immutable(spec, old_spec, &["selector"], &at, &mut out);
    let template = get(spec, "template");
    let not_started = flag(old_spec, "suspend") && !has(get(old, "status"), "startTime");
    let expected = if not_started {
        with_directives_of(get(old_spec, "template"), template)
    } else {
        get(old_spec, "template").clone()
    };
    if !same(template, &expected) {
        out.push(FieldError::immutable(&at.child("template"), template.clone()));
    }
    const FIXED: [&str; 5] =
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    immutable(spec, old_spec, &FIXED, &at, &mut out);
    out
}

/// A job that has not started may still be told where its pods go and what they ask for.
fn with_directives_of(old: &Value, new: &Value) -> Value {
    let mut out = old.clone();
    let take = |out: &mut Value, part: &str, keys: &[&str]| {
        let Some(map) = object(out, part) else { return };
        for key in keys {
            map.insert((*key).to_owned(), get(get(new, part), key).clone());
        }
    };
    take(&mut out, "metadata", &["annotations", "labels"]);
    take(&mut out, "spec", &["nodeSelector", "tolerations", "schedulingGates"]);
    let affinity = at(new, &["spec", "affinity", "nodeAffinity"]).clone();
    let Some(spec) = object(&mut out, "spec") else { return out };
    if (!affinity.is_null() || spec.contains_key("affinity"))
        && let Some(map) = child(spec, "affinity")
    {
        map.insert("nodeAffinity".to_owned(), affinity);
    }
    for key in ["containers", "initContainers"] {
        let resources: Vec<Value> = items(get(new, "spec"), key).iter().map(|c| get(c, "resources").clone()).collect();
        for (container, resources) in each(spec, key).zip(resources) {
            container.insert("resources".to_owned(), resources);
        }
    }
    out
}

fn is(job: &Value, kind: &str) -> bool {
    condition(get(job, "status"), kind).is_some_and(|c| text(c, "status") == "True")
}

/// What has been counted is not uncounted, and what has ended does not begin again.
fn validate_status(new: &Value, old: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let (status, old_status) = (get(new, "status"), get(old, "status"));
    let at = Path::new("status");
    not_negative(status, &["active", "succeeded", "failed", "ready", "terminating"], &at, &mut out);
    let count = |v, key| int(v, key).unwrap_or(0);
    let finished = is(new, "Complete") || is(new, "Failed");
    if is(new, "Complete") && is(new, "Failed") {
        let message = "cannot set Complete=True and Failed=true conditions";
        out.push(FieldError::invalid_omitted(&at.child("conditions"), message));
    }
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !is(new, kind) {
            let message = format!("cannot disable the terminal {kind}=True condition");
            out.push(FieldError::invalid_omitted(&at.child("conditions"), message));
        }
    }
    if is(new, "Complete") && !has(status, "completionTime") {
        let message = "completionTime is required for Complete jobs";
        out.push(FieldError::required(&at.child("completionTime"), message));
    }
    if finished && count(status, "active") > 0 {
        let message = "active>0 is invalid for finished job";
        out.push(FieldError::invalid(&at.child("active"), count(status, "active"), message));
    }
    for key in ["failed", "succeeded"] {
        if count(status, key) < count(old_status, key) {
            let message = format!("cannot decrease the {key} counter");
            out.push(FieldError::invalid(&at.child(key), count(status, key), message));
        }
    }
    if count(status, "ready") > count(status, "active") {
        let message = "cannot set more ready pods than active";
        out.push(FieldError::invalid(&at.child("ready"), count(status, "ready"), message));
    }
    out
}

fn row(job: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(job, "spec"), get(job, "status"));
    let succeeded = int(status, "succeeded").unwrap_or(0);
    let completions = match (int(spec, "completions"), int(spec, "parallelism").unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |key: &str| text(status, key).parse::<Timestamp>().ok();
    let duration = time("startTime").map(|start| {
        let end = time("completionTime").unwrap_or(now);
        table::short_duration(end.as_second() - start.as_second())
    });
    let state = if is(job, "Complete") {
        "Complete"
    } else if is(job, "Failed") {
        "Failed"
    } else if has(get(job, "metadata"), "deletionTimestamp") {
        "Terminating"
    } else {
        let reached = ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|c| is(job, c));
        reached.unwrap_or("Running")
    };
    let [names, images] = table::containers_and_images(get(get(spec, "template"), "spec"));
    vec![
        name(job).into(),
        state.into(),
        completions.into(),
        json!(duration.unwrap_or_default()),
        table::age(job, now),
        names,
        images,
        table::selector(get(spec, "selector")),
    ]
}
