//! Frames on the wire: heads that are read, and what this side sends.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Error, headers::Compressor};

const VERSION: u16 = 3;
pub(crate) const FIN: u8 = 1;
/// Without an end of its own in the other direction.
pub(crate) const UNIDIRECTIONAL: u8 = 2;

pub(crate) const REFUSED_STREAM: u32 = 3;
pub(crate) const CANCEL: u32 = 5;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    SynStream,
    SynReply,
    RstStream,
    Settings,
    Ping,
    GoAway,
    Headers,
    WindowUpdate,
    /// Ignored, as the specification asks.
    Other,
}

/// The first eight bytes of every frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Control { kind: Control, flags: u8, length: usize },
    Data { stream: u32, flags: u8, length: usize },
}

impl Head {
    pub(crate) fn parse(bytes: [u8; 8]) -> Result<Self, Error> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = usize::from(x) << 16 | usize::from(y) << 8 | usize::from(z);
        if a & 0x80 == 0 {
            return Ok(Self::Data { stream: u32::from_be_bytes([a, b, c, d]), flags, length });
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(Error::Protocol("a frame of another version than 3"));
        }
        let kind = match u16::from_be_bytes([c, d]) {
            1 => Control::SynStream,
            2 => Control::SynReply,
            3 => Control::RstStream,
            4 => Control::Settings,
            6 => Control::Ping,
            7 => Control::GoAway,
            8 => Control::Headers,
            9 => Control::WindowUpdate,
            _ => Control::Other,
        };
        Ok(Self::Control { kind, flags, length })
    }
}

/// A number at a place of a control frame's payload; the top bit of stream ids is reserved.
pub(crate) fn number(payload: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = payload.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
    bytes.map(|b| u32::from_be_bytes(*b)).ok_or(Error::Protocol("a frame that is too short"))
}

/// What this side sends.
#[derive(Debug)]
pub(crate) enum Out {
    SynReply(u32),
    Data(u32, Bytes),
    Fin(u32),
    Reset(u32, u32),
    Ping(u32),
    GoAway(u32),
}

fn control(out: &mut BytesMut, kind: u16, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    // Flags are never set, and lengths are far below 24 bits.
    out.put_u32(u32::try_from(length).unwrap_or(0) & 0x00ff_ffff);
}

impl Out {
    pub(crate) fn encode(self, headers: &mut Compressor, out: &mut BytesMut) {
        match self {
            Self::SynReply(stream) => {
                let block = headers.empty();
                control(out, 2, 4 + block.len());
                out.put_u32(stream);
                out.put_slice(&block);
            }
            Self::Data(stream, bytes) => {
                out.put_u32(stream);
                out.put_u32(u32::try_from(bytes.len()).unwrap_or(0) & 0x00ff_ffff);
                out.put_slice(&bytes);
            }
            Self::Fin(stream) => {
                out.put_u32(stream);
                out.put_u32(u32::from(FIN) << 24);
            }
            Self::Reset(stream, why) => {
                control(out, 3, 8);
                out.put_u32(stream);
                out.put_u32(why);
            }
            Self::Ping(id) => {
                control(out, 6, 4);
                out.put_u32(id);
            }
            Self::GoAway(last) => {
                control(out, 7, 8);
                out.put_u32(last);
                out.put_u32(0);
            }
        }
    }
}
