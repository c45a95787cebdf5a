//! Who asks: a client certificate, a bearer token, an identity given by this process, or nobody.

use http::{HeaderMap, HeaderValue, header};
use skiff_api::Status;
use tokio_util::sync::CancellationToken;

use crate::{authz, server::ApiServer, service_accounts};

/// A user and the groups it is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    pub name: String,
    pub groups: Vec<String>,
}

pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

impl UserInfo {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
    }

    /// Whoever starts the cluster.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    pub(crate) fn anonymous() -> Self {
        Self::new("system:anonymous", &[UNAUTHENTICATED])
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// A bearer token that is known from the configuration.
#[derive(Clone)]
pub struct StaticToken {
    pub token: String,
    pub user: UserInfo,
}

impl std::fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StaticToken({})", self.user.name)
    }
}

/// How a request came in.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// From this process, which says who it is.
    InProcess(UserInfo),
    /// Over the network, with the user of a verified client certificate, if there is one.
    /// `closing` ends the connection's watches.
    Network { certificate: Option<UserInfo>, closing: CancellationToken },
}

impl Caller {
    /// What ends the streams of this caller.
    pub(crate) fn closing(&self, api: &ApiServer) -> CancellationToken {
        match self {
            Self::InProcess(_) => api.shutdown.clone(),
            Self::Network { closing, .. } => closing.clone(),
        }
    }
}

/// # Errors
/// 401 for a token that is not known: only a request without any credential is anonymous. 403 when the user asks to
/// act as somebody else and may not.
pub(crate) fn authenticate(api: &ApiServer, caller: &Caller, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let user = match caller {
        Caller::InProcess(user) => user.clone().authenticated(),
        Caller::Network { certificate: Some(user), .. } => user.clone().authenticated(),
        Caller::Network { certificate: None, .. } => of_header(api, headers)?,
    };
    impersonate(user, headers)
}

fn of_header(api: &ApiServer, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(UserInfo::anonymous()) };
    let text = value.to_str().map_err(|_| Status::unauthorized())?;
    let Some((scheme, token)) = text.split_once(' ') else { return Err(Status::unauthorized()) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    user_of_token(api, token.trim(), &[]).ok_or_else(Status::unauthorized)
}

/// `Impersonate-User` and `Impersonate-Group`: whoever may do everything may also do less.
fn impersonate(user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).map_err(|_| Status::bad_request("not ASCII"));
    let groups = headers.get_all("impersonate-group").iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let Some(name) = headers.get("impersonate-user").map(text).transpose()? else {
        if groups.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request("requested groups without impersonating a user"));
    };
    if !authz::is_privileged(&user) {
        let message = format!(
            "users {name:?} is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" at the \
             cluster scope",
            user.name
        );
        return Err(Status::new(403, "Forbidden", message));
    }
    Ok(UserInfo { name, groups }.authenticated())
}

/// The user of a bearer token that this server accepts, for one of these audiences (none: for this server).
pub(crate) fn user_of_token(api: &ApiServer, token: &str, audiences: &[String]) -> Option<UserInfo> {
    let known = api.tokens.iter().find(|t| same(t.token.as_bytes(), token.as_bytes()));
    let user = known.map(|t| t.user.clone()).or_else(|| service_accounts::verify(api, token, audiences));
    user.map(UserInfo::authenticated)
}

/// Compares in a time that does not depend on where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

/// User and groups of a client certificate that the TLS layer has verified: its common name and its organizations.
pub(crate) fn user_of_certificate(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some(UserInfo { name, groups })
}
