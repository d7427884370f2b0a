//! The values of flags: sizes, rates, times, ports.

use std::ops::RangeInclusive;
use std::time::Duration;

use bt_types::MAX_PIECE_LENGTH;
use session::limits::MIN_MEMORY;

/// The ports to try, in order; `0..=0` is any free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports(pub RangeInclusive<u16>);

/// A port, or a range of ports: `6881`, `6881-6889`, `0`.
pub(super) fn ports(text: &str) -> Result<Ports, String> {
    let error = || "expected a port such as 6881, a range such as 6881-6889, or 0 for any";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_| error())?;
    let last: u16 = last.parse().map_err(|_| error())?;
    if first > last || (first == 0 && last != 0) {
        return Err(error().to_owned());
    }
    Ok(Ports(first..=last))
}

/// Bytes: `1000`, `64K`, `1.5M`, `2GiB`. K, M, G and T are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let error = || "expected a number of bytes such as 1000, 64K, 1.5M or 2GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(error()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(error);
    }
    let fraction: f64 = number.parse().map_err(|_| error())?;
    Ok((fraction * (1_u64 << shift) as f64) as u64)
}

/// Bytes a second; 0 is no limit.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
}

/// What all buffers together may take.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).unwrap_or(usize::MAX);
    if bytes < MIN_MEMORY {
        return Err(format!("expected at least {}M", MIN_MEMORY >> 20));
    }
    Ok(bytes)
}

/// A piece length that a torrent may have.
pub(super) fn piece_length(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    let fits = (16 * 1024..=u64::from(MAX_PIECE_LENGTH)).contains(&bytes);
    if !fits || !bytes.is_power_of_two() {
        return Err("expected a power of two from 16K to 512M".to_owned());
    }
    Ok(bytes as u32)
}

/// A time: `30`, `30s`, `5m`, `1.5h`, `2d`. 0 is allowed.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let error = || "expected a time such as 30, 30s, 5m or 2h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(error()),
    };
    let number: f64 = number.parse().map_err(|_| error())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| error())
}

/// A time that bounds a wait: over 0 and at most a day.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time.is_zero() || time > Duration::from_secs(86400) {
        return Err("expected a time over 0 and of a day at most".to_owned());
    }
    Ok(time)
}

/// Uploaded bytes by bytes of the torrent.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio: Option<f64> = text.parse().ok();
    let ratio = ratio.filter(|ratio| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or_else(|| "expected a ratio such as 1 or 2.5".to_owned())
}
