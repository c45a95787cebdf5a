//! The conditions of a Job. A Job ends in two steps: first what it will be (`SuccessCriteriaMet`, `FailureTarget`),
//! then, when all its pods have ended and are counted, what it is (`Complete`, `Failed`).

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};

use crate::objects::seconds;

pub const COMPLETE: &str = "Complete";
pub const FAILED: &str = "Failed";
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub const FAILURE_TARGET: &str = "FailureTarget";
pub const SUSPENDED: &str = "Suspended";

/// How the Job ends, with the reason and message that both conditions carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub success: bool,
    pub reason: String,
    pub message: String,
}

impl Ending {
    pub fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self { success: false, reason: reason.into(), message: message.into() }
    }
    pub fn success(reason: &str, message: impl Into<String>) -> Self {
        Self { success: true, reason: reason.into(), message: message.into() }
    }
    /// What an earlier look decided.
    pub fn decided(status: &JobStatus) -> Option<Self> {
        let ending = |type_, success| {
            let condition = get(status, type_).filter(|c| c.status == "True")?;
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            Some(Self { success, reason: text(&condition.reason), message: text(&condition.message) })
        };
        ending(SUCCESS_CRITERIA_MET, true).or_else(|| ending(FAILURE_TARGET, false))
    }
    pub fn interim(&self) -> &'static str {
        if self.success { SUCCESS_CRITERIA_MET } else { FAILURE_TARGET }
    }
    pub fn terminal(&self) -> &'static str {
        if self.success { COMPLETE } else { FAILED }
    }
}

pub fn get<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_)
}

pub fn is_true(status: &JobStatus, type_: &str) -> bool {
    get(status, type_).is_some_and(|c| c.status == "True")
}

/// When the Job became Complete or Failed.
pub fn finished_at(job: &Job) -> Option<Option<Timestamp>> {
    let status = job.status.as_ref()?;
    let condition = [COMPLETE, FAILED].iter().find_map(|t| get(status, t).filter(|c| c.status == "True"))?;
    Some(condition.last_transition_time.as_ref().map(|t| t.0))
}

/// Appends or updates; a condition that was never there is not added to be False. True if something changed.
pub fn set(status: &mut JobStatus, type_: &str, value: bool, reason: &str, message: &str, now: Timestamp) -> bool {
    let value = if value { "True" } else { "False" };
    let new = JobCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    let changed = match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            let same = old.status == new.status && old.reason == new.reason && old.message == new.message;
            if !same {
                *old = new;
            }
            !same
        }
        None if value == "False" => false,
        None => {
            conditions.push(new);
            true
        }
    };
    if conditions.is_empty() {
        status.conditions = None;
    }
    changed
}
