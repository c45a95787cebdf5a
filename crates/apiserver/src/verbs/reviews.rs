//! The kinds that are questions: who am I, may I, whose token is this. Answered by the rules in force, never stored.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_api::Status;

use crate::{
    authn::{self, UserInfo},
    authz,
    context::Context,
    encode,
    http::body::Sent,
};

/// The answer to a question of this kind; `None`: the kind is not a question.
fn question(plural: &str) -> Option<fn(&Context, &mut Value)> {
    Some(match plural {
        "selfsubjectreviews" => |cx, review| review["status"] = json!({ "userInfo": user_info(&cx.user) }),
        "tokenreviews" => token,
        "selfsubjectaccessreviews" => |cx, review| review["status"] = access(&cx.user),
        "subjectaccessreviews" | "localsubjectaccessreviews" => |_, review| {
            let user = UserInfo {
                name: review["spec"]["user"].as_str().unwrap_or("").to_owned(),
                groups: strings(&review["spec"]["groups"]),
            };
            review["status"] = access(&user);
        },
        "selfsubjectrulesreviews" => |cx, review| review["status"] = rules(&cx.user),
        _ => return None,
    })
}

pub(super) fn is_review(cx: &Context) -> bool {
    question(&cx.kind().plural).is_some()
}

pub(super) fn answer(cx: &Context, sent: &Sent) -> Result<Response<Body>, Status> {
    let mut review = sent.object(cx)?;
    if let Some(answer) = question(&cx.kind().plural) {
        answer(cx, &mut review);
    }
    review["metadata"]["creationTimestamp"] = Value::Null;
    Ok(super::respond(cx, StatusCode::CREATED, cx.accepted.format.transcode(encode::json(&review))?))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user_info(user: &UserInfo) -> Value {
    json!({ "username": user.name, "groups": user.groups })
}

fn access(user: &UserInfo) -> Value {
    if authz::is_privileged(user) { json!({ "allowed": true }) } else { json!({ "allowed": false }) }
}

fn rules(user: &UserInfo) -> Value {
    let (resources, paths) = if authz::is_privileged(user) {
        (
            json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }]),
            json!([{ "verbs": ["*"], "nonResourceURLs": ["*"] }]),
        )
    } else {
        (json!([]), json!([]))
    };
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
}

fn token(cx: &Context, review: &mut Value) {
    let token = review["spec"]["token"].as_str().unwrap_or("");
    let audiences = strings(&review["spec"]["audiences"]);
    review["status"] = match authn::user_of_token(&cx.api, token, &audiences) {
        Some(user) => json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences }),
        None => json!({ "error": "invalid bearer token", "user": {} }),
    };
}
