//! The client with a server on a loopback socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bt_types::PeerId;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

/// Serves a number of connections, one request each, and then returns the heads of the requests.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    fn start<S: Read + Write>(
        connections: usize,
        wrap: impl Fn(TcpStream) -> S + Send + 'static,
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut stream = BufReader::new(wrap(stream));
            let head = read_head(&mut stream);
            // The client may close the connection early.
            let _ = answer(&head, stream.get_mut());
            head
        };
        let thread = thread::spawn(move || (0..connections).map(|_| serve()).collect());
        Self { address, thread }
    }

    fn plain(
        connections: usize,
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::start(connections, |stream| stream, answer)
    }

    /// Answers every request with the same bytes.
    fn always(connections: usize, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::plain(connections, move |_, out| out.write_all(&answer))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn heads(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn read_head(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            break;
        }
    }
    head
}

fn page(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn ok(body: &[u8]) -> Vec<u8> {
    page("200 OK", "", body)
}

fn redirect(to: &str) -> Vec<u8> {
    page("302 Found", &format!("Location: {to}\r\n"), b"moved")
}

fn fetcher(change: impl Fn(&mut FetcherConfig)) -> Fetcher {
    let mut config = FetcherConfig { timeout: Duration::from_secs(20), ..FetcherConfig::default() };
    change(&mut config);
    Fetcher::new(config).unwrap()
}

fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    fetcher(|_| {}).get(url)
}

fn announce(url: &str) -> Result<AnnounceReply, AnnounceError> {
    let request = AnnounceRequest::new(InfoHashV1([0xaa; 20]), PeerId([b'p'; 20]));
    fetcher(|_| {}).announce(url, &request)
}

/// Downloads from a server that gives this answer.
fn get_from(answer: impl Into<Vec<u8>>) -> Result<Vec<u8>, FetchError> {
    let server = Server::always(1, answer);
    let result = get(&server.url("/"));
    server.heads();
    result
}

/// Announces to a tracker that gives this answer.
fn announce_to(answer: &[u8]) -> Result<AnnounceReply, AnnounceError> {
    let server = Server::always(1, answer);
    let result = announce(&server.url("/announce"));
    server.heads();
    result
}

const REPLY: &[u8] = b"d8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe1e";

#[test]
fn announce_sends_hash_and_user_agent() {
    let server = Server::always(1, ok(REPLY));
    let request = AnnounceRequest::new(InfoHashV1([0xaa; 20]), PeerId([b'p'; 20]));
    let fetcher = fetcher(|config| config.user_agent = "bt-cli/1.0".to_owned());
    let reply = fetcher.announce(&server.url("/announce?passkey=1"), &request).unwrap();
    assert_eq!((reply.interval, reply.peers.len()), (1800, 1));
    let heads = server.heads();
    let hash = "%AA".repeat(20);
    let start = format!("GET /announce?passkey=1&info_hash={hash}&peer_id=pppp");
    assert!(heads[0].starts_with(&start), "{}", heads[0]);
    assert!(heads[0].to_lowercase().contains("\r\nuser-agent: bt-cli/1.0\r\n"), "{}", heads[0]);
}

#[test]
fn scrape_returns_entries() {
    let server =
        Server::always(1, ok(b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei5e10:incompletei3eeee"));
    let hash = InfoHashV1([b'x'; 20]);
    let entries = fetcher(|_| {}).scrape(&server.url("/announce"), &[hash]).unwrap();
    let expected = ScrapeEntry { info_hash: hash, seeders: 5, leechers: 3, completed: 0 };
    assert_eq!(entries, [expected]);
    assert!(server.heads()[0].starts_with("GET /scrape?info_hash=xxxx"));
    let error = fetcher(|_| {}).scrape("http://127.0.0.1:1/a", &[hash]).unwrap_err();
    assert_eq!(error, ScrapeError::Url(crate::UrlError::NoScrape));
}

#[test]
fn chunked_and_close_delimited_bodies() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n";
    assert_eq!(get_from(chunked), Ok(b"abcdefg".to_vec()));
    assert_eq!(get_from("HTTP/1.0 200 OK\r\n\r\nabc"), Ok(b"abc".to_vec()));
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    page("200 OK", "Content-Encoding: gzip\r\n", &encoder.finish().unwrap())
}

#[test]
fn gzip_is_decompressed() {
    let server = Server::always(1, gzip(REPLY));
    assert_eq!(announce(&server.url("/announce")).unwrap().interval, 1800);
    let head = &server.heads()[0].to_lowercase();
    assert!(head.contains("accept-encoding: gzip"), "{head}");
}

#[test]
fn limit_counts_decompressed_bytes() {
    let limit = 1000;
    for (body, fits) in [
        (ok(&[0; 1000]), true),
        (ok(&[0; 1001]), false),
        (gzip(&[0; 1000]), true),
        (gzip(&[0; 1_000_000]), false),
    ] {
        let server = Server::always(1, body);
        let got = fetcher(|_| {}).get_with_limit(&server.url("/"), limit);
        assert_eq!(got, if fits { Ok(vec![0; 1000]) } else { Err(FetchError::TooLong { limit }) });
        server.heads();
    }
}

#[test]
fn default_body_limit_is_2_mib() {
    let limit = 2 << 20;
    assert_eq!(get_from(ok(&vec![b'x'; limit])).map(|body| body.len()), Ok(limit));
    assert_eq!(get_from(ok(&vec![b'x'; limit + 1])), Err(FetchError::TooLong { limit }));
}

#[test]
fn headers_are_limited_to_16_kib() {
    for (length, fits) in [(16 << 10, true), ((16 << 10) + 1, false)] {
        let (start, end) = ("HTTP/1.0 200 OK\r\nX-Filler: ", "\r\n\r\n");
        let filler = "x".repeat(length - start.len() - end.len());
        match get_from([start, &filler, end, "body"].concat()) {
            Ok(body) => assert!(fits && body == b"body", "{length}"),
            Err(FetchError::Protocol { .. }) => assert!(!fits, "{length}"),
            Err(error) => panic!("{length}: {error:?}"),
        }
    }
}

#[test]
fn endless_answers_are_cut_off() {
    let get_endless = |start: &'static str, more: &'static [u8]| {
        let server = Server::plain(1, move |_, out| {
            out.write_all(start.as_bytes())?;
            loop {
                out.write_all(more)?;
            }
        });
        let error = get(&server.url("/")).unwrap_err();
        server.heads();
        error
    };
    let error = get_endless("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 64 * 1024]);
    assert_eq!(error, FetchError::TooLong { limit: MAX_BODY });
    let error = get_endless("HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n");
    assert!(matches!(error, FetchError::Protocol { .. }), "{error:?}");
}

#[test]
fn truncated_body_is_an_error() {
    let error = get_from("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. } | FetchError::Protocol { .. }), "{error:?}");
}

#[test]
fn slow_or_silent_server_times_out() {
    let after = Duration::from_millis(300);
    let fetcher = fetcher(|config| config.timeout = after);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    assert_eq!(fetcher.get(&url), Err(FetchError::TimedOut { after }));

    // The client closes the connection. Then writing fails, and the server's thread ends.
    let server = Server::plain(1, |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        loop {
            out.write_all(b"x")?;
            out.flush()?;
            thread::park_timeout(Duration::from_millis(20));
        }
    });
    assert_eq!(fetcher.get(&server.url("/")), Err(FetchError::TimedOut { after }));
    server.heads();
}

/// Returns the `Authorization` headers of an announce and a download with `userinfo` in the URL.
fn authorizations(userinfo: &str) -> Vec<String> {
    let server = Server::always(2, ok(REPLY));
    let url = format!("http://{userinfo}{}/announce", server.address);
    assert!(announce(&url).is_ok());
    assert!(get(&url).is_ok());
    let heads = server.heads();
    let lines = heads.iter().flat_map(|head| head.lines());
    let values = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    values.collect()
}

#[test]
fn password_of_url_is_unescaped() {
    for (userinfo, plain) in [
        ("us%20er:pa%40s%3As@", &b"us er:pa@s:s"[..]),
        ("user:pass@", b"user:pass"),
        ("user@", b"user:"),
        (":pass@", b":pass"),
        ("m%C3%BCller:100%@", "m\u{fc}ller:100%".as_bytes()),
        ("m\u{fc}ller:%ff@", b"m\xc3\xbcller:\xff"),
    ] {
        let sent = authorizations(userinfo);
        let [first, second] = &sent[..] else { panic!("{userinfo}: {sent:?}") };
        assert_eq!(first, second, "{userinfo}");
        let coded = first.strip_prefix("Basic ").unwrap();
        assert_eq!(BASE64_STANDARD.decode(coded).unwrap(), plain, "{userinfo}");
    }
    assert_eq!(authorizations(""), [""; 0]);
    assert_eq!(authorizations("@"), [""; 0]);
}

#[test]
fn redirects_are_followed() {
    let server = Server::plain(4, |head, out| {
        let answer = match head.split(' ').nth(1).unwrap() {
            "/one" => redirect("/two"),
            "/two" => page("308 Permanent Redirect", "Location: three?x=1\r\n", b""),
            "/three?x=1" => page("301 Moved", "Location: ./four#there\r\n", b""),
            _ => ok(b"here"),
        };
        out.write_all(&answer)
    });
    assert_eq!(get(&server.url("/one")), Ok(b"here".to_vec()));
    assert!(server.heads()[3].starts_with("GET /four HTTP/1.1\r\n"));
}

#[test]
fn sixth_redirect_is_refused() {
    let server = Server::always(6, redirect("/again"));
    assert_eq!(get(&server.url("/")), Err(FetchError::TooManyRedirects { limit: 5 }));
    assert_eq!(server.heads().len(), 6);
}

#[test]
fn redirects_to_other_schemes_are_refused() {
    for to in ["file:///etc/passwd", "udp://127.0.0.1:1/", "ftp://127.0.0.1/", "http://[bad/"] {
        let error = get_from(redirect(to)).unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{to}: {error:?}");
    }
}

/// `data` holds a URL and, on the next line, where it redirects to.
fn check_redirect(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (from, location) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(from) = parse(from)
        && let Ok(to) = redirected(&from, location)
    {
        assert!(matches!(to.scheme(), "http" | "https") && to.has_host(), "{to}");
    }
}

#[test]
fn corpus_redirects_stay_within_http() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/fuzz/http_url");
    for entry in std::fs::read_dir(corpus).unwrap() {
        check_redirect(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn redirects_stay_within_http(location in "([a-z]{1,5}:)?/{0,3}[a-z0-9.:/?#@%\\[\\]\u{e9} -]{0,40}.{0,9}") {
        check_redirect(format!("http://t.example/a/b\n{location}").as_bytes());
    }
}

#[test]
fn status_304_is_no_redirect() {
    let error = get_from(page("304 Not Modified", "", b"")).unwrap_err();
    assert!(matches!(error, FetchError::Unexpected { status: 304, .. }), "{error:?}");
}

#[test]
fn refusal_counts_with_any_status() {
    for status in ["200 OK", "400 Bad Request", "503 Busy"] {
        let body = b"d14:failure reason20:unregistered torrent8:intervali90ee";
        let reason = "unregistered torrent".to_owned();
        let expected = AnnounceError::Failure { reason, retry_in: Some(90) };
        assert_eq!(announce_to(&page(status, "", body)), Err(expected));
    }
}

#[track_caller]
fn check_message(answer: &[u8], message: &str) {
    assert_eq!(announce_to(answer).unwrap_err().to_string(), message);
}

#[test]
fn web_pages_are_reported() {
    let html = b"<html>\n<title>Welcome</title>";
    check_message(
        &page("200 OK", "Content-Type: text/html\r\n", html),
        "expected a bencoded reply, got status 200, text/html: \"<html> <title>Welcome</title>\"",
    );
    check_message(
        &page("404 Not Found", "Content-Type: text/plain\r\n", b"nothing here"),
        "expected status 200, got status 404, text/plain: \"nothing here\"",
    );
    check_message(
        &page("200 OK", "", b""),
        "expected a bencoded reply, got status 200, no content type, an empty body",
    );
    // A bencoded dictionary with an error status is an error page.
    check_message(
        &page("500 Oops", "", b"de"),
        "expected status 200, got status 500, no content type: \"de\"",
    );
}

#[test]
fn empty_dictionary_is_a_reply() {
    let reply = announce_to(&ok(b"de")).unwrap();
    assert_eq!((reply.interval, reply.peers.len()), (1800, 0));
}

#[test]
fn peers_count_with_any_status() {
    let body = b"d8:intervali60e5:peers6:\x0a\0\0\x01\x1a\xe1e";
    assert_eq!(announce_to(&page("500 Oops", "", body)).unwrap().peers.len(), 1);
}

#[test]
fn other_protocol_is_reported() {
    let error = get_from("220 mail.example ESMTP\r\n\r\n").unwrap_err();
    assert!(matches!(error, FetchError::Protocol { .. }), "{error:?}");
}

#[test]
fn refused_connection_names_the_address() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = get(&format!("http://{address}/0123456789abcdef")).unwrap_err();
    assert_eq!(error, FetchError::Connect { address, kind: io::ErrorKind::ConnectionRefused });
    assert_eq!(error.to_string(), format!("cannot connect to {address}: connection refused"));
}

#[test]
fn failed_lookup_names_the_host() {
    // The name is too long for a DNS label, so the system sends no query.
    let name = "x".repeat(64);
    let error = get(&format!("http://{name}/announce")).unwrap_err();
    assert!(matches!(&error, FetchError::Resolve { host, .. } if *host == name), "{error:?}");
}

#[test]
fn other_schemes_are_refused() {
    for url in ["udp://127.0.0.1:1", "file:///etc/passwd", "nonsense", ""] {
        assert!(matches!(get(url), Err(FetchError::Url(_))), "{url}");
    }
}

#[test]
fn bound_client_uses_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut stream, source) = listener.accept().unwrap();
        read_head(&mut BufReader::new(&stream));
        stream.write_all(&ok(b"here")).unwrap();
        source.ip()
    });
    let from: IpAddr = "127.0.0.2".parse().unwrap();
    assert_eq!(fetcher(|config| config.bind = Some(from)).get(&url), Ok(b"here".to_vec()));
    assert_eq!(thread.join().unwrap(), from);
}

/// Wraps the server's end of a connection in TLS, with a certificate for `localhost` that the
/// authority in `ca.pem` signed. OpenSSL made all three files (prime256v1, valid for 100 years).
fn tls(stream: TcpStream) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tests/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tests/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    rustls::StreamOwned::new(connection, stream)
}

#[test]
fn own_certificate_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, include_bytes!("tests/ca.pem")).unwrap();
    let trusting = fetcher(|config| config.ca_file = Some(ca_file.clone()));
    let server = Server::start(1, tls, |_, out| {
        out.write_all(&ok(b"secret"))?;
        out.flush()
    });
    let url = format!("https://localhost:{}/", server.address.port());
    assert_eq!(trusting.get(&url), Ok(b"secret".to_vec()));
    server.heads();
}

#[test]
fn unknown_authority_is_refused() {
    let server = Server::start(1, tls, |_, out| out.write_all(&ok(b"secret")));
    let url = format!("https://localhost:{}/", server.address.port());
    let error = get(&url).unwrap_err();
    let FetchError::Tls { host, reason } = &error else { panic!("got {error:?}") };
    assert!(host == "localhost" && reason.contains("UnknownIssuer"), "{reason}");
    server.heads();
}

#[test]
fn invalid_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let refused = || {
        let config = FetcherConfig { ca_file: Some(path.clone()), ..FetcherConfig::default() };
        Fetcher::new(config).unwrap_err()
    };
    assert!(refused().to_string().starts_with("cannot use the certificates in "));
    for text in ["", "no PEM", include_str!("tests/server.key"), "-----BEGIN CERTIFICATE-----\nx"] {
        std::fs::write(&path, text).unwrap();
        let error = refused();
        assert!(matches!(error, FetcherError::CaFile { .. }), "{text}: {error:?}");
    }
    let bad_agent = FetcherConfig { user_agent: "a\r\nb".to_owned(), ..FetcherConfig::default() };
    let refused = Fetcher::new(bad_agent).unwrap_err();
    assert_eq!(refused, FetcherError::UserAgent { got: "a\r\nb".to_owned() });
}

#[test]
fn errors_hide_passkeys() {
    let secret = "0123456789abcdef0123456789abcdef";
    let to = format!("ftp://t.example/{secret}/announce?passkey={secret}");
    let server = Server::always(1, redirect(&to));
    let url = server.url(&format!("/{secret}/announce"));
    let mut errors = vec![announce(&url).unwrap_err().to_string()];
    errors.push(announce(&format!("udp://t/{secret}")).unwrap_err().to_string());
    errors.push(announce(&format!("http://127.0.0.1:1/{secret}")).unwrap_err().to_string());
    for error in errors {
        assert!(!error.contains(secret), "{error}");
    }
    server.heads();
}
