//! The parsed URL of a tracker.

use std::sync::Arc;

use tracker_udp::TrackerUrl;
use url::{Host, Url};

/// Where an announce goes.
#[derive(Debug)]
pub(super) struct Target {
    /// Host and port. All trackers there share one back-off.
    pub(super) host: Arc<str>,
    pub(super) protocol: Protocol,
}

/// How the tracker is asked.
#[derive(Debug)]
pub(super) enum Protocol {
    Http { host_is_address: bool },
    Udp(Box<TrackerUrl>),
}

impl Target {
    /// # Errors
    /// The text is no URL, or one of an unknown scheme.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url =
            Url::parse(text).map_err(|error| format!("the tracker's URL is wrong: {error}"))?;
        let host = url.host_str().unwrap_or_default();
        let host = format!("{host}:{}", url.port_or_known_default().unwrap_or(0)).into();
        let protocol = match url.scheme() {
            "http" | "https" => {
                let host_is_address = matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
                Protocol::Http { host_is_address }
            }
            "udp" => {
                let url = tracker_udp::parse_url(text).map_err(|error| error.to_string())?;
                Protocol::Udp(Box::new(url))
            }
            other => {
                return Err(format!("expected a tracker URL with http, https or udp, got {other}"));
            }
        };
        Ok(Self { host, protocol })
    }
}
