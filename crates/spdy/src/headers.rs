//! Header blocks: names and values, compressed with the dictionary of SPDY/3. One zlib stream per direction lasts as long as the
//! connection, so every block must go through here, also one that nobody wants.

use std::sync::LazyLock;

use zlib_rs::{Inflate, InflateError, InflateFlush};

use crate::{Error, HEADER_BYTES_MAX};

/// In the order sent; names in lower case. A name with several values comes several times.
pub type Headers = Vec<(String, String)>;

/// The first value of a header, by its name in lower case.
pub fn get<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The words of the dictionary, each with its length before it, in the order of the specification.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age \
    allow authorization cache-control connection content-base content-encoding content-language content-length \
    content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since \
    if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
    www-authenticate method get status";
const MORE_WORDS: [&str; 8] = ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"];
/// What follows them.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
    00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";
/// Adler-32 of the dictionary: how a compressed stream names it.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split(' ').chain(MORE_WORDS) {
        push(&mut bytes, word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
});

/// With its length before it; nothing here is longer than a frame.
fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) struct Decompressor(Inflate);

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self(Inflate::new(true, 15))
    }

    pub(crate) fn read(&mut self, block: &[u8]) -> Result<Headers, Error> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Error> {
        // A byte more than is allowed: full means too long.
        let mut out = vec![0; HEADER_BYTES_MAX + 1];
        let (mut read, mut written) = (0, 0);
        while read < block.len() {
            let before = (self.0.total_in(), self.0.total_out());
            let done = self.0.decompress(&block[read..], &mut out[written..], InflateFlush::SyncFlush);
            let moved = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
            let (in_, out_) = (moved(self.0.total_in(), before.0), moved(self.0.total_out(), before.1));
            read += in_;
            written += out_;
            match done {
                Err(InflateError::NeedDict { dict_id: DICTIONARY_ID }) => {
                    self.0
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| Error::Protocol("headers with another dictionary"))?;
                }
                Ok(_) if written > HEADER_BYTES_MAX => return Err(Error::Protocol("headers that are too long")),
                Ok(_) if in_ + out_ > 0 => {}
                _ => return Err(Error::Protocol("headers that do not decompress")),
            }
        }
        out.truncate(written);
        Ok(out)
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Error> {
    let count = number(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut block)?.to_ascii_lowercase();
        let values = text(&mut block)?;
        headers.extend(values.split('\0').map(|value| (name.clone(), value.to_owned())));
    }
    Ok(headers)
}

const SHORT: Error = Error::Protocol("headers that end too early");

fn number(block: &mut &[u8]) -> Result<u32, Error> {
    let (bytes, rest) = block.split_first_chunk::<4>().ok_or(SHORT)?;
    *block = rest;
    Ok(u32::from_be_bytes(*bytes))
}

fn text<'b>(block: &mut &'b [u8]) -> Result<&'b str, Error> {
    let length = usize::try_from(number(block)?).map_err(|_| SHORT)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(SHORT)?;
    *block = rest;
    std::str::from_utf8(bytes).map_err(|_| Error::Protocol("headers that are not UTF-8"))
}

/// The sending side has no headers to send: every reply carries an empty block. Stored blocks need no compressor.
#[derive(Default)]
pub(crate) struct Compressor {
    begun: bool,
}

impl Compressor {
    /// A block without headers.
    pub(crate) fn empty(&mut self) -> Vec<u8> {
        self.stored(&0u32.to_be_bytes())
    }

    fn stored(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        if !std::mem::replace(&mut self.begun, true) {
            // zlib's head: deflate with a window of 32 KiB, a dictionary, and a check that makes it a multiple of 31.
            out.extend_from_slice(&[0x78, 0xbb]);
            out.extend_from_slice(&DICTIONARY_ID.to_be_bytes());
        }
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(bytes);
        // An empty block: readers (Go's) hand out what they have only when they meet one.
        out.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        out
    }

    /// A block of headers, as a client sends it.
    #[cfg(test)]
    pub(crate) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = u32::try_from(headers.len()).unwrap_or(0).to_be_bytes().to_vec();
        for (name, value) in headers {
            push(&mut plain, name.as_bytes());
            push(&mut plain, value.as_bytes());
        }
        self.stored(&plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's length and checksum.
    #[test]
    fn the_dictionary_is_the_one_of_the_specification() {
        let sum = DICTIONARY.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!((DICTIONARY.len(), sum.1 << 16 | sum.0), (1423, DICTIONARY_ID));
        assert_eq!(0x78bb % 31, 0);
    }

    #[test]
    fn blocks_of_one_stream_are_read_one_after_the_other() {
        let (mut sender, mut reader) = (Compressor::default(), Decompressor::new());
        let first = reader.read(&sender.block(&[("streamType", "stdin"), ("port", "80\u{0}81")])).expect("read");
        let expected = [("streamtype", "stdin"), ("port", "80"), ("port", "81")];
        assert_eq!(first, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(reader.read(&sender.empty()).expect("read"), Headers::new());
        let long = "x".repeat(HEADER_BYTES_MAX);
        assert!(reader.read(&sender.block(&[("a", &long)])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
            let mut reader = Decompressor::new();
            let _ = reader.read(&bytes);
            let mut block = Compressor::default().empty();
            block.extend_from_slice(&bytes);
            let _ = Decompressor::new().read(&block);
        }
    }
}
