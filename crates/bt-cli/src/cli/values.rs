//! Parsers for the values of flags: sizes, rates, times, ports.

use std::ops::RangeInclusive;
use std::time::Duration;

use bt_types::MAX_PIECE_LENGTH;
use session::limits::MIN_MEMORY;

/// The ports to try, in order; `0..=0` is any free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports(pub RangeInclusive<u16>);

/// Parses a port or a range of ports: `6881`, `6881-6889`, `0`.
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

/// Routers of the DHT, each as `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routers(pub Vec<String>);

/// Parses a list of routers: `a.example:6881,b.example:6881`, or `none`.
pub(super) fn routers(text: &str) -> Result<Routers, String> {
    if text == "none" {
        return Ok(Routers(Vec::new()));
    }
    text.split(',').map(host_and_port).collect::<Result<_, _>>().map(Routers)
}

/// Checks that `text` is a name or an address with a port.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let is_right = text.rsplit_once(':').is_some_and(|(host, port)| {
        let port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_name = !host.is_empty() && !host.contains([':', '/', ' ']);
        port && (is_name || text.parse::<std::net::SocketAddr>().is_ok())
    });
    let expected = "expected HOST:PORT such as 192.0.2.7:6881, [::1]:6881 or dht.example:6881";
    if is_right { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

/// Parses a number of bytes: `1000`, `64K`, `1.5M`, `2GiB`. K, M, G and T are powers of 1024.
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

/// Parses a rate in bytes per second; 0 means no limit.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
}

/// Parses the memory limit for all buffers together, in bytes.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).unwrap_or(usize::MAX);
    if bytes < MIN_MEMORY {
        return Err(format!("expected at least {}M", MIN_MEMORY >> 20));
    }
    Ok(bytes)
}

/// Parses a piece length that a torrent may have, in bytes.
pub(super) fn piece_length(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    let fits = (16 * 1024..=u64::from(MAX_PIECE_LENGTH)).contains(&bytes);
    if !fits || !bytes.is_power_of_two() {
        return Err("expected a power of two from 16K to 512M".to_owned());
    }
    Ok(bytes as u32)
}

/// Parses a time: `30`, `30s`, `5m`, `1.5h`, `2d`, `1h30m`. 0 is allowed.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let error = || "expected a time such as 30, 30s, 5m, 2h or 1h30m".to_owned();
    let parts: Option<Vec<f64>> = text.split_inclusive(char::is_alphabetic).map(seconds).collect();
    // Only a single number may lack a unit.
    let units = text.chars().filter(|c| c.is_alphabetic()).count();
    let parts = parts.filter(|parts| !parts.is_empty() && (parts.len() == units || units == 0));
    Duration::try_from_secs_f64(parts.ok_or_else(error)?.iter().sum()).map_err(|_| error())
}

/// Converts a number with its unit to seconds.
fn seconds(part: &str) -> Option<f64> {
    let (number, factor) = match part.split_at_checked(part.len().saturating_sub(1))? {
        (number, "s") => (number, 1.0),
        (number, "m") => (number, 60.0),
        (number, "h") => (number, 3600.0),
        (number, "d") => (number, 86400.0),
        _ => (part, 1.0),
    };
    let is_plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| is_plain)?;
    Some(number * factor)
}

/// Parses a limit for a wait: more than 0, at most a day.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time.is_zero() || time > Duration::from_secs(86400) {
        return Err("expected a time greater than 0 and at most 1d".to_owned());
    }
    Ok(time)
}

/// Parses the version of an item of the DHT.
pub(super) fn seq(text: &str) -> Result<i64, String> {
    let seq: Option<i64> = text.parse().ok();
    seq.filter(|seq| *seq >= 0).ok_or_else(|| format!("expected a number from 0 to {}", i64::MAX))
}

/// Parses a ratio: uploaded bytes divided by the torrent's size.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio: Option<f64> = text.parse().ok();
    let ratio = ratio.filter(|ratio| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or_else(|| "expected a ratio such as 1 or 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [
            ("0", 0.0),
            ("30", 30.0),
            ("1.5", 1.5),
            ("30s", 30.0),
            ("5m", 300.0),
            ("1.5h", 5400.0),
            ("2d", 172_800.0),
            ("1h30m", 5400.0),
            ("1d2h3m4s", 93_784.0),
        ] {
            assert_eq!(time(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in
            ["", "s", "h30m", "1h30", "1x", "-1", "1h-30m", "1 h", "inf", "nan", "1e9s", "1w", "é"]
        {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, bytes) in [
            ("0", 0),
            ("500K", 500 << 10),
            ("3MB", 3 << 20),
            ("3MiB/s", 3 << 20),
            ("1.5m", 3 << 19),
            ("1G/s", 1 << 30),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "fast", "-1", "3Mbit"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
