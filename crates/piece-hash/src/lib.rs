//! piece-hash
