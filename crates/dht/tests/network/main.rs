//! Real nodes on a virtual UDP network with loss, delay, NATs, outages and churn.

mod bench;
mod hostile;
#[cfg(feature = "items")]
mod items;
mod lies;
mod net;
mod scenarios;
mod single;
