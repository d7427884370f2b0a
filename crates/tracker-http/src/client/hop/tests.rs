use ureq::unversioned::transport::time::Duration as Span;

use super::*;

/// Resolves the host of `url` with a checked resolver.
fn resolve(
    url: &str,
    allowed: AllowedAddresses,
    bind: Option<&str>,
) -> Result<Vec<std::net::SocketAddr>, ureq::Error> {
    let bind = bind.map(|ip| ip.parse().unwrap());
    let timeout = NextTimeout { after: Span::NotHappening, ..NextTimeout::default() };
    let config = ureq::config::Config::default();
    let found =
        CheckedResolver { allowed, bind }.resolve(&url.parse().unwrap(), &config, timeout)?;
    Ok(found.iter().copied().collect())
}

#[test]
fn private_addresses_are_refused() {
    let local = "http://127.0.0.1:6969/announce";
    let addresses = resolve(local, AllowedAddresses::Any, None).unwrap();
    assert_eq!(addresses, ["127.0.0.1:6969".parse().unwrap()]);
    let public = resolve("http://1.1.1.1/", AllowedAddresses::Public, None).unwrap();
    assert_eq!(public, ["1.1.1.1:80".parse().unwrap()]);
    for url in [local, "https://[::1]/", "http://169.254.169.254/latest", "http://localhost/"] {
        let refused = resolve(url, AllowedAddresses::Public, None);
        let Err(ureq::Error::Other(error)) = refused else { panic!("{url}: got {refused:?}") };
        let error = error.downcast::<FetchError>().unwrap();
        assert!(matches!(*error, FetchError::Private { .. }), "{url}: got {error:?}");
    }
}

#[test]
fn bound_client_keeps_its_family() {
    let local = "http://127.0.0.1/";
    assert!(resolve(local, AllowedAddresses::Any, Some("127.0.0.1")).is_ok());
    assert!(matches!(
        resolve(local, AllowedAddresses::Any, Some("::")),
        Err(ureq::Error::HostNotFound)
    ));
}
