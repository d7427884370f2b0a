//! A swarm downloads from a seeder that answers at once, on a virtual clock, and prints what it
//! wants done.
//!
//! ```text
//! cargo run -p swarm --example outputs [MiB]
//! ```

use std::time::Duration;

use swarm::{
    Bitfield, BlockFate, Committed, ConnectedPeer, Geometry, Output, PeerId, PeerKey, SpanBudget,
    SpanLayout, Swarm, SwarmConfig,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mebibytes: u64 = std::env::args().nth(1).map_or(Ok(4), |text| text.parse())?;
    let (mut now, mut budget) = (Duration::ZERO, SpanBudget::new(8 << 20));
    let geometry = Geometry::new(mebibytes << 20, 1 << 20)?;
    let (none, all) =
        (Bitfield::new(geometry.piece_count()), Bitfield::full(geometry.piece_count()));
    let mut swarm = Swarm::new(now, &SwarmConfig::new(PeerId([1; 20])));
    swarm.begin_transfer(now, geometry, none, all, &[])?;

    let (seeder, address) = (PeerKey(1), "192.0.2.1:6881".parse()?);
    let peer = ConnectedPeer { address, outgoing: false, fast: true, peer_id: PeerId([2; 20]) };
    swarm.handle_connected(now, seeder, peer)?;
    swarm.handle_have_all(now, seeder);
    swarm.handle_unchoke(now, seeder);
    while let Some(output) = swarm.poll_output(now, &mut budget) {
        println!("{:7.3} {output:?}", now.as_secs_f64());
        match output {
            Output::Request { peer, request } => {
                // There is no payload: a swarm never sees any.
                now += Duration::from_millis(4);
                swarm.handle_payload(now, peer, request.length());
                assert_eq!(swarm.handle_part(now, peer, request, 0), BlockFate::Keep);
                swarm.handle_block(now, peer, request);
            }
            Output::Commit { piece, .. } => {
                // The hash matches, and the disk takes no time.
                budget.release(SpanLayout::new(geometry).cost(piece));
                swarm.handle_committed(now, piece, Committed::Verified { digests: None });
            }
            _ => {}
        }
        if swarm.poll_timeout().is_some_and(|at| at <= now) {
            swarm.handle_timeout(now);
        }
    }
    println!("{} bytes in {:.2} s", swarm.downloaded(), now.as_secs_f64());
    Ok(())
}
