//! The wire format: varints, keys and lengths.

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("not a Kubernetes protobuf message: it does not begin with k8s\\0")]
    Magic,
    #[error("unexpected end of the protobuf message")]
    End,
    #[error("a protobuf number is longer than 10 bytes")]
    Varint,
    #[error("wrong protobuf wire type {wire} for field {field}")]
    WireType { field: u32, wire: u8 },
    #[error("a protobuf string is not UTF-8")]
    Utf8,
    #[error("the protobuf message nests deeper than {} levels", super::DEPTH_MAX)]
    Depth,
    #[error("the protobuf message has more than {} values", super::VALUES_MAX)]
    Values,
    #[error("the JSON inside the protobuf message is not valid: {0}")]
    Json(String),
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind { version: String, kind: String },
    #[error("the content encoding {0:?} is not supported")]
    Encoding(String),
}

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(super) const FIXED32: u8 = 5;

/// Reads what it is asked for or fails; never beyond the end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Field number and wire type; `None` at the end.
    pub(crate) fn key(&mut self) -> Result<Option<(u32, u8)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| WireError::Varint)?;
        Ok(Some((number, (key & 7) as u8)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(WireError::End)?;
            self.rest = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::End)?;
        self.take(length)
    }

    pub(crate) fn fixed64(&mut self) -> Result<[u8; 8], WireError> {
        self.take(8)?.try_into().map_err(|_| WireError::End)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn skip(&mut self, field: u32, wire: u8) -> Result<(), WireError> {
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            // Groups are not used by Kubernetes.
            _ => Err(WireError::WireType { field, wire }),
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Utf8)
}

/// Finds the last occurrence of a length-delimited field in a small message.
pub(crate) fn last_bytes(message: &[u8], wanted: u32) -> Result<Option<&[u8]>, WireError> {
    let mut reader = Reader::new(message);
    let mut found = None;
    while let Some((number, wire)) = reader.key()? {
        if number == wanted && wire == BYTES {
            found = Some(reader.bytes()?);
        } else {
            reader.skip(number, wire)?;
        }
    }
    Ok(found)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_key(out: &mut Vec<u8>, field: u32, wire: u8) {
    put_varint(out, u64::from(field) << 3 | u64::from(wire));
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put_key(out, field, VARINT);
    put_varint(out, value);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field whose length is known only when it is written: it is put in front then.
pub(crate) fn put_nested<E>(
    out: &mut Vec<u8>,
    field: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_key(out, field, BYTES);
    let start = out.len();
    write(out)?;
    let length = out.len() - start;
    let end = out.len();
    put_varint(out, length as u64);
    let prefix = out.len() - end;
    out[start..].rotate_right(prefix);
    Ok(())
}
