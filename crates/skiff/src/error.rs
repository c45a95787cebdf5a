//! Errors as a user reads them: one line, outermost first, each fact once.

/// The chain of an error on one line. What the API server answered is its message and reason, nothing else of it.
pub fn render(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref::<kube::Error>() {
            let reason = if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
            parts.push(format!("{}{reason}", status.message));
            break;
        }
        let text = cause.to_string();
        // Many libraries repeat their source in their own text.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_answer_of_the_server_is_its_message() {
        let status = kube::core::Status::failure("pods \"x\" not found", "NotFound").with_code(404);
        let error = anyhow::Error::from(kube::Error::Api(Box::new(status))).context("failed to get x");
        assert_eq!(render(&error), "failed to get x: pods \"x\" not found (NotFound)");
    }

    #[test]
    fn a_repeated_source_is_said_once() {
        let inner = std::io::Error::other("disk");
        let error = Err::<(), _>(inner).context("a: disk").unwrap_err();
        assert_eq!(render(&error), "a: disk");
    }
}
