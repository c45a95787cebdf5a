//! The string form of label selectors (`app=web,tier in (a,b),!old`), with upstream's words about what is wrong.

use super::labels::{Operator, Requirement};
use crate::field::FieldError;
use crate::names;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    NotEquals,
    Open,
    /// Also `in` and `notin`, which are values elsewhere.
    Word(&'a str),
    /// A run of symbols that means nothing.
    Error,
}

/// Recursive descent over tokens, with one of look-ahead.
pub(super) struct Parser<'a> {
    tokens: Vec<(Token<'a>, &'a str)>,
    at: usize,
}

fn is_symbol(b: u8) -> bool {
    b"=!(),><".contains(&b)
}

fn tokens(text: &str) -> Vec<(Token<'_>, &str)> {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::new(), 0);
    while i < bytes.len() {
        let start = i;
        if bytes[i].is_ascii_whitespace() {
            i += 1;
            continue;
        }
        if !is_symbol(bytes[i]) {
            while i < bytes.len() && !is_symbol(bytes[i]) && !bytes[i].is_ascii_whitespace() {
                i += 1;
            }
            out.push((Token::Word(&text[start..i]), &text[start..i]));
            continue;
        }
        let (token, length) = match (bytes[i], bytes.get(i + 1)) {
            (b'=', Some(b'=')) => (Token::DoubleEquals, 2),
            (b'!', Some(b'=')) => (Token::NotEquals, 2),
            (b'=', _) => (Token::Equals, 1),
            (b'!', _) => (Token::Not, 1),
            (b'(', _) => (Token::Open, 1),
            (b')', _) => (Token::Close, 1),
            (b',', _) => (Token::Comma, 1),
            (b'>', _) => (Token::Greater, 1),
            (b'<', _) => (Token::Less, 1),
            _ => (Token::Error, 1),
        };
        i += length;
        out.push((token, &text[start..i]));
    }
    out.push((Token::End, ""));
    out
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { tokens: tokens(text), at: 0 }
    }
    fn peek(&self) -> (Token<'a>, &'a str) {
        self.tokens.get(self.at).copied().unwrap_or((Token::End, ""))
    }
    fn next(&mut self) -> (Token<'a>, &'a str) {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub(super) fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                (Token::Word(_) | Token::Not, _) => {}
                (Token::End, _) => return Ok(out),
                (_, found) => return Err(format!("found '{found}', expected: !, identifier, or 'end of string'")),
            }
            out.push(self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?);
            match self.next() {
                (Token::End, _) => return Ok(out),
                (Token::Comma, _) => match self.peek() {
                    (Token::Word(_) | Token::Not, _) => {}
                    (_, found) => return Err(format!("found '{found}', expected: identifier after ','")),
                },
                (_, found) => return Err(format!("found '{found}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut found) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, found) = self.next();
        }
        let Token::Word(key) = token else { return Err(format!("found '{found}', expected: identifier")) };
        invalid("<nil>", key, names::qualified_name(key))?;
        if negated {
            return Ok(Requirement::new(key, Operator::DoesNotExist, Vec::new()));
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement::new(key, Operator::Exists, Vec::new()));
        }
        let operator = match self.next() {
            (Token::Word("in"), _) => Operator::In,
            (Token::Word("notin"), _) => Operator::NotIn,
            (Token::Equals | Token::DoubleEquals, _) => Operator::Equals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        let numeric = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        for (i, v) in values.iter().enumerate() {
            if numeric && v.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer".to_owned();
                invalid(&format!("values[{i}]"), v, vec![why])?;
            }
            invalid(&format!("values[{i}][{key}]"), v, names::label_value(v))?;
        }
        Ok(Requirement::new(key, operator, values))
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word(value), _) => Ok(value.to_owned()),
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a,b)`; a value may be empty, as in `(a,)`.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            (Token::Open, _) => {}
            (_, found) => return Err(format!("found '{found}' expected: '('")),
        }
        let mut out = Vec::new();
        let mut expects_value = true;
        loop {
            match self.next() {
                (Token::Word(value), _) if expects_value => {
                    out.push(value.to_owned());
                    expects_value = false;
                }
                (Token::Comma, _) => {
                    if expects_value {
                        out.push(String::new());
                    }
                    expects_value = true;
                }
                (Token::Close, _) => {
                    if expects_value {
                        out.push(String::new());
                    }
                    return Ok(out);
                }
                (_, found) if expects_value => {
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
                (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
            }
        }
    }
}

fn invalid(field: &str, value: &str, why: Vec<String>) -> Result<(), String> {
    if why.is_empty() { Ok(()) } else { Err(FieldError::invalid(field, value, why.join("; ")).to_string()) }
}
