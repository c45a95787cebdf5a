//! `serviceaccounts/NAME/token`: a token for an account, bound to a pod or secret when the request says so.

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};
use skiff_api::{FieldError, Status};

use crate::{
    context::Context,
    encode,
    http::{body::Sent, errors},
    object::{self, meta_str},
    registry, service_accounts,
};

const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

pub(super) fn create(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let mut request = sent.value()?;
    let name = cx.target.name();
    let entry = cx.api.store.get(&cx.key(name)).ok_or_else(|| Status::not_found(cx.kind(), name))?;
    let account = registry::parse(&entry.value)?;
    let signer = cx.api.token_signer.as_ref();
    let signer = signer.ok_or_else(|| Status::new(501, "NotImplemented", "this API server has no key for tokens"))?;
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT);
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        let detail = if seconds < SECONDS_MIN {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let error = FieldError::invalid("spec.expirationSeconds", seconds, detail);
        return Err(Status::invalid(cx.kind(), name, &vec![error]));
    }
    let audiences = match request["spec"]["audiences"].as_array().filter(|a| !a.is_empty()) {
        Some(audiences) => audiences.clone(),
        None => vec![service_accounts::AUDIENCE.into()],
    };
    let namespace = cx.namespace().unwrap_or("");
    let mut cluster = json!({
        "namespace": namespace,
        "serviceaccount": { "name": name, "uid": meta_str(&account, "uid") },
    });
    bind(cx, namespace, &request["spec"]["boundObjectRef"], &mut cluster)?;
    let now = cx.now.as_second();
    let claims = json!({
        "aud": audiences, "iss": service_accounts::ISSUER, "iat": now, "nbf": now, "exp": now + seconds,
        "jti": uuid::Uuid::new_v4().to_string(), "sub": service_accounts::user(namespace, name).name,
        "kubernetes.io": cluster,
    });
    let token = signer.sign(&claims).ok_or_else(|| Status::internal("the system gives no randomness"))?;
    let ends = cx.now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(cx.now);
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] = json!({ "name": name, "namespace": namespace, "creationTimestamp": object::time(cx.now) });
    object::map_at(&mut request, "spec").insert("expirationSeconds".to_owned(), seconds.into());
    object::map_at(&mut request, "spec").insert("audiences".to_owned(), audiences.into());
    request["status"] = json!({ "token": token, "expirationTimestamp": object::time(ends) });
    Ok(super::respond(cx, StatusCode::CREATED, cx.accepted.format.transcode(encode::json(&request))?))
}

/// Adds the object to which the token is bound; it must exist.
fn bind(cx: &Context, namespace: &str, reference: &Value, cluster: &mut Value) -> Result<(), Status> {
    if reference.is_null() {
        return Ok(());
    }
    let (claim, plural) = match (reference["kind"].as_str(), reference["apiVersion"].as_str()) {
        (Some("Pod"), Some("v1")) => ("pod", "pods"),
        (Some("Secret"), Some("v1")) => ("secret", "secrets"),
        (kind, version) => {
            let (kind, version) = (kind.unwrap_or(""), version.unwrap_or(""));
            let message = format!("cannot bind token for serviceaccount to type {version} {kind}");
            return Err(Status::bad_request(message));
        }
    };
    let name = reference["name"].as_str().unwrap_or("");
    let resource = cx.api.registry.find("", "v1", plural).ok_or_else(Status::no_such_resource)?;
    let entry = cx.api.store.get(&resource.key(Some(namespace), name));
    let object = registry::parse(&entry.ok_or_else(|| Status::not_found(&resource.kind, name))?.value)?;
    let (wanted, found) = (reference["uid"].as_str().unwrap_or(""), meta_str(&object, "uid"));
    if !wanted.is_empty() && wanted != found {
        return Err(errors::precondition(&resource.kind, name, "UID", wanted, found));
    }
    cluster[claim] = json!({ "name": name, "uid": found });
    Ok(())
}
