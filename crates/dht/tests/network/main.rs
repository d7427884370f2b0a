//! Real nodes on a virtual UDP network with loss, delay, NATs, outages and churn.

mod hostile;
#[cfg(feature = "items")]
mod items;
mod net;
mod scenarios;
mod single;
