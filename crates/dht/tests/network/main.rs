//! Real nodes on a virtual UDP network with loss, delay, NATs, outages and churn.

mod net;
mod scenarios;
mod single;
