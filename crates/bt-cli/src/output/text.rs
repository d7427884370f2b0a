//! Formats numbers for people, and makes untrusted text harmless.

use std::time::Duration;

/// Whether the character could control a terminal or mislead people: control characters, and marks
/// that change the direction of text.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns `text` on one line, without [unsafe](is_unsafe) characters.
pub(crate) fn clean(text: &str) -> String {
    let spaced = |c| if matches!(c, '\n' | '\t') { ' ' } else { c };
    text.trim_end().chars().map(spaced).filter(|c| !is_unsafe(*c)).collect()
}

/// Formats `number` with the singular or plural: `1 peer`, `2 peers`, `1 piece is`, `0 pieces are`.
pub(crate) fn count(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Formats a size: `512 B`, `3.5 KiB`, `120 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95 && value.fract() != 0.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Formats a size with its exact bytes: `3.5 KiB (3,584 bytes)`.
pub(crate) fn size_exactly(bytes: u64) -> String {
    if bytes < 1024 { size(bytes) } else { format!("{} ({} bytes)", size(bytes), grouped(bytes)) }
}

/// Formats a rate: `1.5 MiB/s`.
pub(crate) fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// Returns the mean rate of `bytes` in `time`, in bytes per second.
pub(crate) fn mean_rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(0.001)) as u64
}

/// Formats a duration: `45s`, `3m 05s`, `2h 10m`, `3d 4h`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Formats a duration that is often less than a second: `157 ms`, `3.3s`, `1m 05s`.
pub(crate) fn short_duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1}s", time.as_secs_f64()),
        _ => duration(time),
    }
}

/// Formats seconds since 1970: `2024-04-25 12:00:00 UTC`, or the number if it is out of range.
pub(crate) fn date(unix: i64) -> String {
    let (days, seconds) = (unix.div_euclid(86400), unix.rem_euclid(86400));
    if !(-719_162..=2_932_896).contains(&days) {
        return format!("{unix} seconds since 1970");
    }
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns the Gregorian date of a day counted from 1970-01-01. Years start in March, so that the
/// leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
