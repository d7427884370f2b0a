//! The protocol of a datagram. All protocols share one socket; the first bytes tell them apart.

/// The protocol of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datagram {
    /// UDP trackers: a reply, which starts with its action (BEP 15).
    Tracker,
    /// The DHT: a dictionary (BEP 5).
    Dht,
    /// A protocol that we do not speak.
    Unknown,
}

/// Whether a datagram is for the DHT, where anybody may send one.
pub(crate) fn is_for_dht(bytes: &[u8]) -> bool {
    classify(bytes) == Datagram::Dht
}

pub(super) fn classify(bytes: &[u8]) -> Datagram {
    match bytes {
        [0, 0, 0, 0..=3, ..] => Datagram::Tracker,
        [b'd', ..] => Datagram::Dht,
        _ => Datagram::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        for (bytes, expected) in [
            (&[0, 0, 0, 0, 9][..], Datagram::Tracker),
            (&[0, 0, 0, 3], Datagram::Tracker),
            (&[0, 0, 0, 4, 0], Datagram::Unknown),
            (&[0, 0, 0], Datagram::Unknown),
            (b"d1:ad2:id20:", Datagram::Dht),
            (b"", Datagram::Unknown),
        ] {
            assert_eq!(classify(bytes), expected, "{bytes:?}");
        }
    }
}
