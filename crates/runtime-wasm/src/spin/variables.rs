//! The variables of a Spin application: their values come from the container's `SPIN_VARIABLE_NAME`, or are the manifest's
//! defaults; a component reads what its own configuration makes of them (`{{ name }}`).

use std::collections::BTreeMap;

use super::app::{App, Component};

const PREFIX: &str = "SPIN_VARIABLE_";

/// The value of every variable of the application.
///
/// # Errors
/// Which have none, and how to give them one.
pub fn values(app: &App, env: &[(String, String)]) -> Result<BTreeMap<String, String>, String> {
    let (mut values, mut absent) = (BTreeMap::new(), Vec::new());
    for (name, default) in &app.variables {
        let variable = format!("{PREFIX}{}", name.to_ascii_uppercase());
        let given = env.iter().rev().find(|(key, _)| *key == variable).map(|(_, value)| value.clone());
        match given.or_else(|| default.clone()) {
            Some(value) => drop(values.insert(name.clone(), value)),
            None => absent.push(variable),
        }
    }
    if absent.is_empty() {
        return Ok(values);
    }
    Err(format!("the Spin application has variables without a value: set {} in the container's env", absent.join(", ")))
}

/// Whether a variable of the container is for the host alone.
pub fn for_host(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What a component reads.
///
/// # Errors
/// Which of its entries cannot be made.
pub fn config(component: &Component, values: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let made = component.config.iter().map(|(name, template)| {
        let text = expand(template, values);
        text.map(|text| (name.clone(), text))
            .map_err(|error| format!("the variable {name:?} of Spin component {:?}: {error}", component.id))
    });
    made.collect()
}

/// Puts the values of variables in place of their names.
///
/// # Errors
/// What is not a template, or whose variable is not there.
pub fn expand(template: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| format!("{template:?} has no end of its \"{{{{\""))?;
        let name = name.trim();
        text.push_str(before);
        text.push_str(values.get(name).ok_or_else(|| format!("the application has no variable {name:?}"))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        let variables = [("token".to_owned(), None), ("greeting".to_owned(), Some("hello".to_owned()))];
        App { variables: variables.into(), ..App::default() }
    }

    #[test]
    fn values_come_from_the_container_then_from_the_manifest() {
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>();
        let error = values(&app(), &[]).expect_err("the token has no default");
        assert!(error.contains("set SPIN_VARIABLE_TOKEN in"), "{error}");
        let found = values(&app(), &env(&[("SPIN_VARIABLE_TOKEN", "t"), ("OTHER", "x")])).expect("all are there");
        assert_eq!((found["token"].as_str(), found["greeting"].as_str()), ("t", "hello"));
        let config = [("auth".to_owned(), "Bearer {{ token }}, {{greeting}}".to_owned())];
        let component = Component { config: config.into(), ..Component::default() };
        assert_eq!(super::config(&component, &found).expect("fits")["auth"], "Bearer t, hello");
        for (template, expected) in [("{{ none }}", "\"none\""), ("{{ token", "no end")] {
            assert!(expand(template, &found).expect_err("is wrong").contains(expected));
        }
    }
}
