//! What the fuzzer found worth keeping breaks no promise.

use testkit::replay;

#[test]
fn udp_packet() {
    replay("udp_packet", tracker_udp::fuzz::packet);
}

#[test]
fn udp_exchange() {
    replay("udp_exchange", tracker_udp::fuzz::exchange);
}

#[test]
fn udp_url() {
    replay("udp_url", tracker_udp::fuzz::url);
}
