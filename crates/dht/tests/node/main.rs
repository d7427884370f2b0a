//! One real node among scripted ones. Networks of real nodes are played by `cargo xtask sim --dht`.

mod bench;
#[cfg(feature = "items")]
mod items;
mod lies;
mod single;
