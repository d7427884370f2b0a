//! piece-store
