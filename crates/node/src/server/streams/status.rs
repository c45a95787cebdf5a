//! How a command ended, as the error channel tells it: a `Status` since version 4, plain text before.

use serde_json::{Value, json};
use skiff_runtime::{Error, Exit};

/// What the client is told at the end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Success,
    Exited { code: i32, message: String },
    Failed(String),
}

impl Outcome {
    pub(super) fn of(exit: Result<Exit, Error>, doing: &str) -> Self {
        match exit {
            Ok(Exit { code: 0, .. }) => Self::Success,
            Ok(Exit { code, message, .. }) => Self::Exited { code, message },
            Err(error) => Self::failed(doing, &error),
        }
    }

    pub(super) fn failed(doing: &str, error: &Error) -> Self {
        Self::Failed(format!("error {doing}: {error}"))
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::Exited { code, message } => {
                let why = if message.is_empty() { String::new() } else { format!(": {message}") };
                Some(format!(
                    "command terminated with non-zero exit code: command terminated with exit code {code}{why}"
                ))
            }
            Self::Failed(why) => Some(format!("Internal error occurred: {why}")),
        }
    }

    /// The bytes of the error channel.
    pub(super) fn encode(&self, as_status: bool) -> Vec<u8> {
        if !as_status {
            return self.text().unwrap_or_default().into_bytes();
        }
        self.status().to_string().into_bytes()
    }

    fn status(&self) -> Value {
        let message = self.text();
        match self {
            Self::Success => json!({ "metadata": {}, "status": "Success" }),
            Self::Exited { code, .. } => json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Self::Failed(why) => json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
                "details": { "causes": [{ "message": why }] }, "code": 500,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_as_upstream_tells_it() {
        let text = |outcome: &Outcome, as_status| String::from_utf8(outcome.encode(as_status)).expect("text");
        assert_eq!(text(&Outcome::Success, true), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(text(&Outcome::Success, false), "");
        let three = Outcome::of(Ok(Exit::from_code(3)), "x");
        let status: Value = serde_json::from_slice(&three.encode(true)).expect("JSON");
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({ "reason": "ExitCode", "message": "3" }));
        let failed = Outcome::of(Err(Error::Unsupported("exec")), "executing command in container");
        assert_eq!(
            text(&failed, false),
            "Internal error occurred: error executing command in container: exec is not supported by this runtime"
        );
    }
}
