//! The one place that asks for the time: everything else is given it.

use jiff::Timestamp;

pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
