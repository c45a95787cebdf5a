//! One line of a log file.

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// As it is written.
    pub time: &'a str,
    pub stream: Stream,
    /// Only a part: the container's line goes on in the next one.
    pub partial: bool,
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// `None` for what is not a line of a CRI log.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let mut fields = raw.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // Tags may be joined by colons; the first says whether the line is complete.
        let tag = fields.next()?.split(|b| *b == b':').next()?;
        Some(Self { time, stream, partial: tag == b"P", text: fields.next().unwrap_or_default() })
    }

    pub fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// As the container wrote it.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text);
        if !self.partial {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_cri_format_are_read() {
        let time = "2026-01-01T00:00:00.123456789Z";
        let line = |rest: &str| format!("{time} {rest}\n");
        for (raw, expected) in [
            (line("stdout F hello  world"), Some((Stream::Stdout, false, "hello  world"))),
            (line("stderr P part"), Some((Stream::Stderr, true, "part"))),
            (line("stdout F "), Some((Stream::Stdout, false, ""))),
            (line("stdout F"), Some((Stream::Stdout, false, ""))),
            (line("stdin F x"), None),
            ("nonsense\n".to_owned(), None),
        ] {
            let parsed = Line::parse(raw.as_bytes());
            let got = parsed.map(|l| (l.stream, l.partial, std::str::from_utf8(l.text).expect("text")));
            assert_eq!(got, expected, "{raw}");
            assert!(parsed.is_none_or(|l| l.time == time && l.at().is_some()));
        }
    }
}
