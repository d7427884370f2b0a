//! The pieces that a choked peer may request (BEP 6, "Allowed Fast Set Generation").

use std::net::Ipv4Addr;

use bt_types::{Geometry, InfoHashV1, PieceIndex};
use sha1::{Digest, Sha1};

/// Returns the `count` pieces that every client serves to the peer at `ip` even while it is choked,
/// or all pieces if there are fewer.
///
/// The set depends only on the torrent and the peer's network, the first three bytes of its
/// address. BEP 6 defines no set for IPv6. `count` is usually 10 and at most 100.
pub fn allowed_fast_set(
    ip: Ipv4Addr,
    info_hash: &InfoHashV1,
    count: u32,
    geometry: &Geometry,
) -> Vec<PieceIndex> {
    let wanted = count.min(MAX_COUNT).min(geometry.piece_count()) as usize;
    let mut set = Vec::with_capacity(wanted);
    let [a, b, c, _] = ip.octets();
    let mut hash: [u8; 20] =
        Sha1::new().chain_update([a, b, c, 0]).chain_update(info_hash.as_bytes()).finalize().into();
    while set.len() < wanted {
        for word in hash.as_chunks().0 {
            let index = u32::from_be_bytes(*word) % geometry.piece_count();
            match geometry.piece(index) {
                Some(piece) if set.len() < wanted && !set.contains(&piece) => set.push(piece),
                _ => {}
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

/// The largest set. Drawing takes longer the closer the set comes to all pieces.
const MAX_COUNT: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(count: u32, pieces: u64) -> Vec<u32> {
        let geometry = Geometry::new(pieces, 1).unwrap();
        let info_hash = InfoHashV1([0xaa; 20]);
        let set = allowed_fast_set(Ipv4Addr::new(80, 4, 4, 200), &info_hash, count, &geometry);
        set.into_iter().map(PieceIndex::get).collect()
    }

    #[test]
    fn examples_of_bep_6() {
        assert_eq!(set(7, 1313), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set(9, 1313), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn small_torrent_is_allowed_completely() {
        assert!(set(10, 0).is_empty());
        assert_eq!(set(10, 1), [0]);
        let mut all = set(10, 7);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(set(u32::MAX, 100).len(), 100);
    }
}
