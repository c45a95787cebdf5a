//! CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::job;
use crate::Hooks;
use crate::apps::v1::workload::not_negative;
use crate::core::v1::pod_spec::one_of;
use crate::cron::Schedule;
use crate::field::{FieldError, FieldErrors, Path};
use crate::object::{default as default_to, existing, get, has, items, keep_status, name, object, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    default,
    prepare_create: crate::object::drop_status,
    prepare_update: keep_status,
    validate,
    columns: &[
        Column::NAME,
        Column::new("Schedule", "string").about("When it runs, in cron's form."),
        Column::new("Timezone", "string").about("Where that time is meant."),
        Column::new("Suspend", "boolean").about("Whether it is held."),
        Column::new("Active", "integer").about("How many of its jobs run now."),
        Column::new("Last Schedule", "string").about("When it last ran."),
        Column::AGE,
        Column::new("Containers", "string").wide(),
        Column::new("Images", "string").wide(),
        Column::new("Selector", "string").wide(),
    ],
    row,
    ..Hooks::GENERIC
};

/// A job's name is the CronJob's and eleven more bytes.
const NAME_MAX: usize = 52;

fn default(cron: &mut Value) {
    let Some(spec) = object(cron, "spec") else { return };
    default_to(spec, "concurrencyPolicy", "Allow");
    default_to(spec, "suspend", false);
    default_to(spec, "successfulJobsHistoryLimit", 3);
    default_to(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = existing(spec, "jobTemplate").and_then(|t| existing(t, "spec")) {
        job::default_template_spec(job);
    }
}

fn validate(cron: &Value) -> FieldErrors {
    let mut out = Vec::new();
    let spec = get(cron, "spec");
    let at = Path::new("spec");
    let schedule = text(spec, "schedule");
    let at_schedule = at.child("schedule");
    if schedule.is_empty() {
        out.push(FieldError::required(&at_schedule, ""));
    } else if schedule.contains("TZ") {
        let message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        out.push(FieldError::invalid(&at_schedule, schedule, message));
    } else if let Err(e) = schedule.parse::<Schedule>() {
        out.push(FieldError::invalid(&at_schedule, schedule, e.to_string()));
    }
    not_negative(spec, &["startingDeadlineSeconds"], &at, &mut out);
    if let Some(zone) = get(spec, "timeZone").as_str() {
        time_zone(zone, &at.child("timeZone"), &mut out);
    }
    one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &at, &mut out);
    let template = at.child("jobTemplate");
    let at_job = template.child("spec");
    let job = get(get(spec, "jobTemplate"), "spec");
    job::validate_spec(job, &at_job, &mut out);
    if get(job, "manualSelector").as_bool() == Some(true) {
        out.push(FieldError::not_supported(&at_job.child("manualSelector"), true, &["nil", "false"]));
    }
    not_negative(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], &at, &mut out);
    if name(cron).len() > NAME_MAX {
        let message = format!("must be no more than {NAME_MAX} characters");
        out.push(FieldError::invalid("metadata.name", name(cron), message));
    }
    out
}

/// The form of an IANA name; whether there is such a zone is known where it is used.
fn time_zone(zone: &str, at: &Path<'_>, out: &mut FieldErrors) {
    let part_is_right = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    if zone.is_empty() {
        out.push(FieldError::invalid(at, zone, "timeZone must be nil or non-empty string"));
    } else if !zone.split('/').all(part_is_right) {
        out.push(FieldError::invalid(at, zone, format!("unknown time zone {zone}")));
    } else if zone.eq_ignore_ascii_case("Local") {
        let message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        out.push(FieldError::invalid(at, zone, message));
    }
}

fn row(cron: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (get(cron, "spec"), get(cron, "status"));
    let job = get(get(spec, "jobTemplate"), "spec");
    let [names, images] = table::containers_and_images(get(get(job, "template"), "spec"));
    let last = get(status, "lastScheduleTime");
    vec![
        name(cron).into(),
        text(spec, "schedule").into(),
        table::or_none(text(spec, "timeZone")),
        if has(spec, "suspend") { get(spec, "suspend").to_string().into() } else { "<unset>".into() },
        items(status, "active").len().into(),
        if last.is_null() { "<none>".into() } else { table::since(last, now).into() },
        table::age(cron, now),
        names,
        images,
        table::selector(get(job, "selector")),
    ]
}
