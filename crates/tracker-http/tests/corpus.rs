//! What the fuzzer found worth keeping breaks no promise.

use testkit::replay;

#[test]
fn http_announce() {
    replay("http_announce", tracker_http::fuzz::announce);
}

#[test]
fn http_scrape() {
    replay("http_scrape", tracker_http::fuzz::scrape);
}

#[test]
fn http_url() {
    replay("http_url", tracker_http::fuzz::url);
}
