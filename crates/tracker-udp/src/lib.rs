//! tracker-udp
