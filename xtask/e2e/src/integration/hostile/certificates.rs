//! HTTPS trackers with bad certificates.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use testkit::WebServer;

use super::{Case, case, peers_of};
use crate::bt_cli::{COMMAND_LIMIT, Finished, finish};
use crate::integration::scene::{Scene, file, text};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("sound", "valid for this name and time, of a trusted authority", |scene| {
            let (authority, leaf) = signed(&params("localhost")?)?;
            let server = serve(&leaf)?;
            peers_trusting(scene, &server, Some(&authority))?.expect(0)
        }),
        case("another authority", "of an authority with the same name as a trusted one", |scene| {
            let (_, leaf) = signed(&params("localhost")?)?;
            let (another, _) = signed(&params("localhost")?)?;
            refused(scene, &leaf, Some(&another), "BadSignature")
        }),
        case("unknown authority", "of an untrusted authority", |scene| {
            let (_, leaf) = signed(&params("localhost")?)?;
            refused(scene, &leaf, None, "UnknownIssuer")
        }),
        case("in a download", "of an untrusted authority", in_a_download),
        case("self-signed", "signed with its own key", |scene| {
            let (authority, _) = signed(&params("localhost")?)?;
            refused(scene, &self_signed(&params("localhost")?)?, Some(&authority), "")
        }),
        case("another name", "for tracker.example", |scene| {
            let (authority, leaf) = signed(&params("tracker.example")?)?;
            refused(scene, &leaf, Some(&authority), "not valid for name")
        }),
        case("expired", "valid until 2001", |scene| of_years(scene, 2000, "expired")),
        case("not yet valid", "valid from 2200 on", |scene| of_years(scene, 2200, "not valid yet")),
        case("no TLS", "plain HTTP where TLS is expected", |scene| {
            let answer_first = |mut stream: TcpStream| {
                let _gone = stream.write_all(REPLY);
                stream
            };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let server = WebServer::bind(address, answer_first, |_, _| Ok(()))?;
            let finished = peers_of(scene, url(&server), &[])?;
            finished.expect(4)?;
            finished.expect_text("no secure connection to localhost")
        }),
    ]
}

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\nd8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe1e";

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn params(name: &str) -> Result<CertificateParams> {
    Ok(CertificateParams::new([name.to_owned()])?)
}

fn self_signed(params: &CertificateParams) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    Ok(Identity { certificate, key: key.serialize_der() })
}

/// Makes a new authority, in PEM form, and a certificate that it signs.
fn signed(params: &CertificateParams) -> Result<(String, Identity)> {
    let mut authority = CertificateParams::new([])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let pem = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority, authority_key);
    let certificate = params.signed_by(&key, &issuer)?.der().clone();
    Ok((pem, Identity { certificate, key: key.serialize_der() }))
}

/// Starts a tracker with this certificate.
fn serve(identity: &Identity) -> Result<WebServer> {
    let key = PrivateKeyDer::try_from(identity.key.clone()).ok().context("no private key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], key)?;
    let config = Arc::new(config);
    let wrap = move |stream: TcpStream| {
        let connection = ServerConnection::new(config.clone());
        StreamOwned::new(connection.expect("a configuration that works"), stream)
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(WebServer::bind(address, wrap, |_, out| out.write_all(REPLY))?)
}

fn url(server: &WebServer) -> String {
    format!("https://localhost:{}/announce", server.address().port())
}

/// Runs `peers`, which may trust this authority.
fn peers_trusting(scene: &Scene, server: &WebServer, trusted: Option<&str>) -> Result<Finished> {
    let ca_file = scene.path("authority.pem");
    let Some(pem) = trusted else { return peers_of(scene, url(server), &[]) };
    fs::write(&ca_file, pem)?;
    peers_of(scene, url(server), &["--ca-file", text(&ca_file)?])
}

/// `peers` refuses the tracker, which never gets a request.
fn refused(scene: &Scene, leaf: &Identity, trusted: Option<&str>, words: &str) -> Result<()> {
    let server = serve(leaf)?;
    let finished = peers_trusting(scene, &server, trusted)?;
    finished.expect_text(words)?;
    expect_refusal(&finished, &server)
}

/// The certificate is valid for one year, from the start of `year` on.
fn of_years(scene: &Scene, year: i32, words: &str) -> Result<()> {
    let mut params = params("localhost")?;
    params.not_before = date_time_ymd(year, 1, 1);
    params.not_after = date_time_ymd(year + 1, 1, 1);
    let (authority, leaf) = signed(&params)?;
    refused(scene, &leaf, Some(&authority), words)
}

fn expect_refusal(finished: &Finished, server: &WebServer) -> Result<()> {
    finished.expect(4)?;
    finished.expect_text("no secure connection to localhost")?;
    ensure!(server.requests().is_empty(), "it got requests: {:?}", server.requests());
    Ok(())
}

/// A download refuses it too.
fn in_a_download(scene: &Scene) -> Result<()> {
    let (_, leaf) = signed(&params("localhost")?)?;
    let server = serve(&leaf)?;
    let payload = scene.payload(file(8).tracker(url(&server)))?;
    let mut launch = scene.download("user", &payload, &["--stall-timeout", "1"])?;
    expect_refusal(&finish(&mut launch, COMMAND_LIMIT)?, &server)
}
