use serde_json::{Value, json};

use super::*;
use crate::field::Path;

#[test]
fn label_selectors_match() {
    let labels = json!({"app": "web", "tier": "front", "n": "5"});
    for (selector, expected) in [
        ("", true),
        ("app", true),
        ("!app", false),
        ("!x", true),
        ("app=web", true),
        ("app==web,tier=front", true),
        ("app != web", false),
        ("x!=web", true),
        ("app in (api, web)", true),
        ("app notin (api,web)", false),
        ("x notin (a)", true),
        ("x in ()", false),
        ("n>4", true),
        ("n<5", false),
        ("app>1", false),
        ("in in (in)", false),
        ("x=", false),
    ] {
        assert_eq!(LabelSelector::parse(selector).unwrap().matches_labels(&labels), expected, "{selector}");
    }
}

#[test]
fn label_selectors_print_what_they_parse() {
    for (input, printed) in [
        ("b=1,a==2", "a=2,b=1"),
        ("x in (b,a,b)", "x in (a,b)"),
        ("x notin (,a)", "x notin (,a)"),
        ("!a , b", "!a,b"),
        ("a>1", "a>1"),
    ] {
        let parsed = LabelSelector::parse(input).unwrap();
        assert_eq!(parsed.to_string(), printed);
        assert_eq!(LabelSelector::parse(printed).unwrap(), parsed);
    }
}

#[test]
fn label_selectors_that_do_not_parse() {
    for (input, message) in [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ] {
        assert_eq!(LabelSelector::parse(input).unwrap_err().message, message, "{input}");
    }
    assert!(
        LabelSelector::parse("a/b/c=1")
            .unwrap_err()
            .message
            .starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must")
    );
}

#[test]
fn selector_objects() {
    let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
        {"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
    let parsed = LabelSelector::from_object(&selector);
    assert_eq!(parsed.to_string(), "a=1,b in (x,y),!c");
    assert!(parsed.matches_object(&json!({"metadata": {"labels": {"a": "1", "b": "y"}}})));
    assert!(!LabelSelector::from_object(&Value::Null).matches_labels(&json!({})));
    assert!(LabelSelector::from_object(&json!({})).matches_labels(&Value::Null));
    let check = |v: &Value| {
        let mut out = Vec::new();
        validate_selector(v, &Path::new("s"), &mut out);
        out.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check(&selector), Vec::<String>::new());
    let bad = json!({"matchExpressions": [{"key": "b", "operator": "In"}, {"key": "c", "operator": "Gt"}]});
    assert_eq!(
        check(&bad),
        [
            "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "s.matchExpressions[1].operator: Invalid value: \"Gt\": not a valid selector operator",
        ]
    );
}

#[test]
fn field_selectors() {
    let object = json!({"metadata": {"name": "a", "namespace": "n"}});
    let fields = [("status.phase", "Running".to_owned()), ("x", "a,b".to_owned())];
    for (selector, expected) in [
        ("", true),
        ("metadata.name=a", true),
        ("metadata.name!=a", false),
        ("status.phase==Running,metadata.namespace=n", true),
        ("status.phase!=Running", false),
        ("spec.nodeName=", true),
        (r"x=a\,b", true),
    ] {
        assert_eq!(FieldSelector::parse(selector).unwrap().matches_object(&object, &fields), expected, "{selector}");
    }
    assert_eq!(FieldSelector::parse("a").unwrap_err().message, "invalid selector: 'a'; can't understand 'a'");
    let selector = FieldSelector::parse("spec.foo=1").unwrap();
    assert_eq!(selector.check(&["status.phase"]).unwrap_err().message, "field label not supported: spec.foo");
    assert!(selector.check(&[]).unwrap_err().message.contains("is not a known field selector"));
    assert_eq!(FieldSelector::parse(r"x=a\,b").unwrap().to_string(), r"x=a\,b");
}
