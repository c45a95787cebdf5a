//! The options in a query string, typed and checked once.

use skiff_api::{Status, decode::FieldValidation};
use url::form_urlencoded;

/// The parameters of a request, in order and decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or("").as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Absent and empty are the same for every string option of the API.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// As upstream decodes a boolean: present and neither `false` nor `0` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "0")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = text.parse::<i64>().map(Some);
        parsed.map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    }
}

/// The options of create, update and patch.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    pub force: bool,
}

impl WriteOptions {
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        let asked = query.get("fieldValidation").unwrap_or("");
        let field_validation = FieldValidation::from_query(asked).ok_or_else(|| {
            invalid_options(&format!(
                "fieldValidation: Unsupported value: {asked:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))
        })?;
        let field_manager = query.text("fieldManager").map(str::to_owned);
        if let Some(manager) = field_manager.as_ref().filter(|m| m.len() > FIELD_MANAGER_MAX) {
            return Err(invalid_options(&format!(
                "fieldManager: Too long: may not be more than {FIELD_MANAGER_MAX} bytes, is {}",
                manager.len()
            )));
        }
        Ok(Self { dry_run: dry_run(query.all("dryRun"))?, field_manager, field_validation, force: query.flag("force") })
    }
}

/// Upstream's limit on the name of a field manager.
const FIELD_MANAGER_MAX: usize = 128;

/// `All` is the only value there is.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut dry = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value != "All" {
            return Err(invalid_options(&format!("dryRun: Unsupported value: {value:?}: supported values: \"All\"")));
        }
        dry = true;
    }
    Ok(dry)
}

pub(crate) fn invalid_options(what: &str) -> Status {
    Status::new(422, "Invalid", format!("Options.meta.k8s.io \"\" is invalid: {what}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// The options of list, watch and deletecollection.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `None` when absent or empty.
    pub resource_version: Option<u64>,
    pub version_match: Option<VersionMatch>,
    pub limit: usize,
    pub continue_token: Option<String>,
    pub timeout_seconds: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let resource_version = match query.text("resourceVersion") {
            None => None,
            Some(text) => Some(text.parse::<u64>().map_err(|_| {
                Status::bad_request(format!(
                    "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })?),
        };
        let version_match = match query.text("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(VersionMatch::Exact),
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some(other) => {
                return Err(invalid_list(&format!(
                    "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                )));
            }
        };
        let options = Self {
            label_selector: query.text("labelSelector").map(str::to_owned),
            field_selector: query.text("fieldSelector").map(str::to_owned),
            resource_version,
            version_match,
            limit: usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(0),
            continue_token: query.text("continue").map(str::to_owned),
            timeout_seconds: query.number("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents")),
        };
        if watch {
            options.check_watch()?
        } else {
            options.check_list()?
        }
        Ok(options)
    }

    fn check_watch(&self) -> Result<(), Status> {
        match (self.send_initial_events, self.version_match) {
            (Some(_), None) => Err(invalid_list(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (Some(_), Some(VersionMatch::Exact)) => Err(invalid_list(
                "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"",
            )),
            (None, Some(_)) => Err(invalid_list(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            (Some(true), Some(_)) if !self.bookmarks => {
                Err(invalid_list("sendInitialEvents: Forbidden: sendInitialEvents requires allowWatchBookmarks"))
            }
            _ => Ok(()),
        }
    }

    fn check_list(&self) -> Result<(), Status> {
        if self.send_initial_events.is_some() {
            return Err(invalid_list("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"));
        }
        if self.continue_token.is_some() {
            if self.version_match.is_some() {
                return Err(invalid_list(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if self.resource_version.is_some_and(|rv| rv != 0) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
        }
        if self.version_match.is_some() && self.resource_version.is_none() {
            return Err(invalid_list(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if self.version_match == Some(VersionMatch::Exact) && self.resource_version == Some(0) {
            return Err(invalid_list(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        Ok(())
    }
}

fn invalid_list(what: &str) -> Status {
    Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {what}"))
}
