//! Whole numbers that are written with a fraction or an exponent.
//!
//! `100`, `100.0` and `1e2` are one number in JSON, and an integer to JSON Schema, which describes the
//! commands; some languages write no other form. Rust's integers are read from the first alone.

use std::borrow::Cow;

/// The most digits of an integer of 64 bits.
const DIGITS: usize = 20;

/// Writes each whole number of a JSON text in digits alone. What is not JSON comes out as little as it
/// went in.
pub(super) fn in_digits(json: &[u8]) -> Cow<'_, [u8]> {
    let mut written: Option<Vec<u8>> = None;
    let (mut at, mut copied, mut in_text) = (0, 0, false);
    while let Some(byte) = json.get(at) {
        match byte {
            b'\\' if in_text => at += 2,
            b'"' => {
                in_text = !in_text;
                at += 1;
            }
            b'-' | b'0'..=b'9' if !in_text => {
                let end = json[at..].iter().position(|byte| !is_of_a_number(*byte));
                let end = end.map_or(json.len(), |length| at + length);
                if let Some(digits) = digits(&json[at..end]) {
                    let written = written.get_or_insert_with(|| Vec::with_capacity(json.len()));
                    written.extend_from_slice(&json[copied..at]);
                    written.extend_from_slice(digits.as_bytes());
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    match written {
        None => Cow::Borrowed(json),
        Some(mut written) => {
            written.extend_from_slice(&json[copied..]);
            Cow::Owned(written)
        }
    }
}

fn is_of_a_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The digits of a whole number that is written otherwise, and not too long for any integer.
fn digits(number: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(number).ok()?;
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = is_digits(whole) && is_digits(fraction);
    if !well_formed || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let significant = all.trim_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // The power of ten of the last significant digit.
    let trailing = all.len() - all.trim_end_matches('0').len();
    let power = i64::from(exponent) - fraction.len() as i64 + trailing as i64;
    let zeros = usize::try_from(power).ok()?;
    if significant.len().saturating_add(zeros) > DIGITS {
        return None;
    }
    Some(format!("{sign}{significant}{}", "0".repeat(zeros)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(json: &str) -> String {
        String::from_utf8(in_digits(json.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn whole_numbers_are_written_in_digits() {
        for (number, digits) in [
            ("100.0", "100"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("1.5e1", "15"),
            ("1.50e1", "15"),
            ("100e-2", "1"),
            ("-7.00", "-7"),
            ("0.0", "0"),
            ("-0.0", "0"),
            ("0e5", "0"),
            ("0.001e3", "1"),
            ("9007199254740993.0", "9007199254740993"),
            ("9223372036854775807.0", "9223372036854775807"),
        ] {
            assert_eq!(rewritten(number), digits);
            assert_eq!(
                rewritten(&format!(r#"{{"a":[{number}, {number}]}}"#)),
                format!(r#"{{"a":[{digits}, {digits}]}}"#)
            );
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for json in [
            "",
            "100",
            "-0",
            "1.5",
            "1e-1",
            "100e-3",
            "1e30",
            "1e999999999999",
            "1e",
            "1.",
            ".5",
            "01.0",
            "1.0.0",
            "--1.0",
            "1e2e3",
            "-",
            r#"{"1.0":"1e2","a":"\"1.0","b":"\\"}"#,
            r#"{"a":"1.0"#,
            r#""\"#,
        ] {
            assert_eq!(rewritten(json), json);
        }
    }

    proptest! {
        #[test]
        fn no_number_changes_its_value(mantissa in -9_999_999i64..9_999_999, places in 0u32..9, exponent in -9i32..9) {
            let text = format!("{}e{exponent}", mantissa as f64 / 10f64.powi(places as i32));
            let value: f64 = text.parse().unwrap();
            let read: f64 = rewritten(&text).parse().unwrap();
            prop_assert_eq!(read.to_bits() | 1 << 63, value.to_bits() | 1 << 63, "{}", text);
        }

        #[test]
        fn nothing_makes_it_fail(json in ".*") {
            let _ = rewritten(&json);
        }
    }
}
