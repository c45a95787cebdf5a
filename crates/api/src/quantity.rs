//! Quantities (`100m`, `1.5Gi`, `2e3`): exact fixed-point numbers with the suffix family they were written in.
//!
//! Held as a count of 10⁻⁹ in an `i128`. What is finer is rounded away from zero, as upstream does; binary quantities
//! are capped at 2⁶³-1 as upstream does, decimal ones at ±10²⁸ (upstream: unbounded). Nothing overflows or panics.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde_json::Value;

const NANOS: i128 = 1_000_000_000;
/// In nanos: the largest binary quantity.
const BINARY_MAX: i128 = i64::MAX as i128 * NANOS;
/// In nanos: the largest decimal quantity.
const DECIMAL_MAX: i128 = 10_000_000_000_000_000_000_000_000_000 * NANOS;

/// The suffix family, kept so that a quantity is written as its author would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// `1e3`
    DecimalExponent,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `m`, `k`, `M`, …
    #[default]
    DecimalSi,
}

/// Equality and order are by amount alone: `1Gi` equals `1024Mi`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let number_end = unsigned.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (suffix_is_garbage(suffix)) {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(if number.is_empty() && suffix.is_empty() {
                QuantityError::Format
            } else {
                QuantityError::Numeric
            });
        }
        let (scale, format) = parse_suffix(suffix)?;
        let max = if format == Format::BinarySi { BINARY_MAX } else { DECIMAL_MAX };
        let nanos = to_nanos(whole, fraction, scale).unwrap_or(max).min(max);
        // A binary quantity below one is written in decimal, so as not to lose it.
        let format = if format == Format::BinarySi && nanos < NANOS { Format::DecimalSi } else { format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// A string or a number, as JSON manifests have both.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(s) => Self::parse(s.trim()),
            Value::Number(n) => Self::parse(&n.to_string()),
            _ => Err(QuantityError::Format),
        }
    }

    pub fn from_value(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANOS, format: Format::DecimalSi }
    }
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * 1_000_000, format: Format::DecimalSi }
    }
    /// For memory: written with `Ki`, `Mi`, ….
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANOS, format: Format::BinarySi }
    }

    /// Whole units, rounded away from zero, saturating.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nanos, NANOS))
    }
    /// Thousandths, rounded away from zero, saturating.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_up(self.nanos, 1_000_000))
    }
    /// For ratios and display only.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
    /// No fraction.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANOS == 0
    }
    pub fn format(&self) -> Format {
        self.format
    }
    /// To thousandths, away from zero: what resource lists are rounded to.
    pub fn round_up_to_milli(self) -> Self {
        Self { nanos: divide_up(self.nanos, 1_000_000) * 1_000_000, ..self }
    }

    fn bounded(nanos: i128, format: Format) -> Self {
        Self { nanos: nanos.clamp(-DECIMAL_MAX, DECIMAL_MAX), format }
    }
}

fn suffix_is_garbage(suffix: &str) -> bool {
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let rest = &suffix[letters..];
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    !digits.bytes().all(|b| b.is_ascii_digit())
}

/// The power of ten, and of two, that a suffix stands for.
#[derive(Clone, Copy)]
struct Factor {
    ten: i32,
    two: u32,
}

fn parse_suffix(suffix: &str) -> Result<(Factor, Format), QuantityError> {
    let ten = |ten| Ok((Factor { ten, two: 0 }, Format::DecimalSi));
    let two = |two| Ok((Factor { ten: 0, two }, Format::BinarySi));
    match suffix {
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "" => ten(0),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let ten: i64 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            // Beyond these every number is zero or the cap.
            let ten = i32::try_from(ten.clamp(-1000, 1000)).map_err(|_| QuantityError::Suffix)?;
            Ok((Factor { ten, two: 0 }, Format::DecimalExponent))
        }
    }
}

/// `None` when the amount is beyond what an `i128` holds.
fn to_nanos(whole: &str, fraction: &str, factor: Factor) -> Option<i128> {
    // Digits beyond the 18th place cannot matter other than by being there: they round up.
    let kept = fraction.len().min(18);
    let sticky = fraction.as_bytes()[kept..].iter().any(|b| *b != b'0');
    let mut mantissa: i128 = 0;
    for digit in whole.bytes().chain(fraction.as_bytes()[..kept].iter().copied()) {
        mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let scaled = mantissa.checked_mul(1i128.checked_shl(factor.two)?)?;
    if scaled == 0 && !sticky {
        return Some(0);
    }
    let exponent = 9 + factor.ten - i32::try_from(kept).ok()?;
    let extra = i128::from(sticky);
    if exponent >= 0 {
        let nanos = 10i128.checked_pow(exponent.unsigned_abs()).and_then(|p| scaled.checked_mul(p))?;
        nanos.checked_add(extra)
    } else {
        match 10i128.checked_pow(exponent.unsigned_abs()) {
            Some(divisor) => divide_up(scaled, divisor).checked_add(if scaled % divisor == 0 { extra } else { 0 }),
            None => Some(1),
        }
    }
}

/// Away from zero.
fn divide_up(n: i128, divisor: i128) -> i128 {
    let quotient = n / divisor;
    if n % divisor == 0 { quotient } else { quotient + n.signum() }
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && self.is_whole() && self.nanos.abs() >= 1024 * NANOS {
            let (mut n, mut power) = (self.nanos / NANOS, 0);
            while n % 1024 == 0 && power + 1 < BINARY.len() {
                n /= 1024;
                power += 1;
            }
            return write!(f, "{n}{}", BINARY[power]);
        }
        let (mut n, mut power) = (self.nanos, 0);
        while n % 1000 == 0 && (power + 1 < DECIMAL.len() || self.format == Format::DecimalExponent) {
            n /= 1000;
            power += 1;
        }
        let exponent = power as i32 * 3 - 9;
        match (self.format, exponent) {
            (Format::DecimalExponent, 0) => write!(f, "{n}"),
            (Format::DecimalExponent, e) => write!(f, "{n}e{e}"),
            _ => write!(f, "{n}{}", DECIMAL[power]),
        }
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(s: &str) -> Result<Self, QuantityError> {
        Self::parse(s)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The sum is written as the left side is, unless that is zero.
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self::bounded(self.nanos.saturating_add(other.nanos), format)
    }
}
impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}
impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}
impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}
impl From<Quantity> for Value {
    fn from(q: Quantity) -> Value {
        Value::String(q.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(s: &str) -> String {
        Quantity::parse(s).map_or_else(|e| format!("error: {e}"), |q| q.to_string())
    }

    #[test]
    fn canonical_form() {
        for (input, expected) in [
            ("0", "0"),
            ("00.00Gi", "0"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("3072Mi", "3Gi"),
            ("1.5Gi", "1536Mi"),
            ("3072", "3072"),
            ("1000", "1k"),
            ("0.5Ki", "512"),
            ("512Ki", "512Ki"),
            ("1023Ki", "1023Ki"),
            ("0.5Gi", "512Mi"),
            ("1e3", "1e3"),
            ("12E-3", "12e-3"),
            ("1E6", "1e6"),
            ("1E", "1E"),
            ("1000E", "1000E"),
            ("-1.5k", "-1500"),
            ("+5", "5"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("100u", "100u"),
            (".5", "500m"),
            ("5.", "5"),
            ("8Ei", "9223372036854775807"),
            ("99999999999999999999999999999999999999999Ki", "9223372036854775807"),
            ("0.0001Mi", "104857600u"),
        ] {
            assert_eq!(canonical(input), expected, "{input}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for input in ["", "+", "-", "abc", "1.2.3", "1 Gi", "1gi", "1KiB", "1ee3", "0x10", "١", "1,5", "Gi", "--1"] {
            assert!(Quantity::parse(input).is_err(), "{input}");
        }
    }

    #[test]
    fn whole_and_milli_values_round_up() {
        for (input, value, milli) in
            [("1", 1, 1000), ("1m", 1, 1), ("1u", 1, 1), ("-1m", -1, -1), ("1Ki", 1024, 1_024_000), ("1500m", 2, 1500)]
        {
            let q = Quantity::parse(input).unwrap();
            assert_eq!((q.value(), q.milli_value()), (value, milli), "{input}");
        }
        assert_eq!(Quantity::parse("1e30").unwrap().value(), i64::MAX);
    }

    #[test]
    fn sums_keep_the_format_of_the_left() {
        let q = |s: &str| Quantity::parse(s).unwrap();
        assert_eq!((q("1Gi") + q("1024Mi")).to_string(), "2Gi");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert_eq!(q("1Gi"), q("1024Mi"));
        assert!(q("1G") < q("1Gi"));
        assert_eq!(Quantity::from_json(&serde_json::json!(2)).unwrap().to_string(), "2");
        assert_eq!(Quantity::from_json(&serde_json::json!(0.5)).unwrap().to_string(), "500m");
    }
}
