use super::*;

fn hash(byte: u8) -> InfoHashV1 {
    InfoHashV1([byte; 20])
}

#[track_caller]
fn check_url(base: &str, expected: Result<&str, UrlError>) {
    let expected =
        expected.map(|url| url.replace("X", &"x".repeat(20)).replace("Y", &"y".repeat(20)));
    assert_eq!(scrape_url(base, &[hash(b'x'), hash(b'y')]), expected);
}

#[test]
fn urls() {
    let query = "info_hash=X&info_hash=Y";
    let scrape = |start: &str| format!("{start}{query}");
    check_url("http://t.example/announce", Ok(&scrape("http://t.example/scrape?")));
    check_url("http://t.example/x/announce", Ok(&scrape("http://t.example/x/scrape?")));
    check_url("http://t.example/announce.php", Ok(&scrape("http://t.example/scrape.php?")));
    check_url("http://t.example/announce?k=1", Ok(&scrape("http://t.example/scrape?k=1&")));
    check_url("http://t.example/announce/key", Ok(&scrape("http://t.example/scrape/key?")));
    check_url("http://announce.example/announce", Ok(&scrape("http://announce.example/scrape?")));
    check_url("http://t.example/a", Err(UrlError::NoScrape));
    check_url("http://announce.example/", Err(UrlError::NoScrape));
    check_url("http://t.example/?x=announce", Err(UrlError::NoScrape));
    check_url("udp://t.example:1/announce", Err(UrlError::Scheme { got: "udp".to_owned() }));
}

#[test]
fn no_hashes_add_no_query() {
    let url = |base| scrape_url(base, &[]).unwrap();
    assert_eq!(url("http://t.example/announce"), "http://t.example/scrape");
    assert_eq!(url("http://t.example/announce?a=b"), "http://t.example/scrape?a=b");
}

#[test]
fn replies() {
    // BEP 48's own example, in one line and with sorted keys.
    let body =
        b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19ee\
                 20:yyyyyyyyyyyyyyyyyyyyd8:completei21e10:downloadedi206e10:incompletei20eeee";
    let entry = |byte, seeders, completed, leechers| ScrapeEntry {
        info_hash: hash(byte),
        seeders,
        leechers,
        completed,
    };
    let expected = vec![entry(b'x', 11, 13772, 19), entry(b'y', 21, 206, 20)];
    assert_eq!(parse_scrape(body), Ok(expected.clone()));
    for length in 0..body.len() {
        let error = parse_scrape(&body[..length]).unwrap_err();
        assert!(matches!(error, ReplyError::NotBencode { .. }), "{length}: {error}");
    }
    assert_eq!(parse_scrape(&[&body[..], b"\n"].concat()), Ok(expected));
    assert_eq!(parse_scrape(b"d5:filesdee"), Ok(vec![]));
    assert_eq!(
        parse_scrape(b"d5:filesd3:abcde20:xxxxxxxxxxxxxxxxxxxxi1e20:yyyyyyyyyyyyyyyyyyyydeee"),
        Ok(vec![entry(b'y', 0, 0, 0)])
    );
}

#[test]
fn bad_replies() {
    assert_eq!(parse_scrape(b"de"), Err(ReplyError::MissingKey { key: "files" }));
    let wrong = ReplyError::WrongKind { key: "files", expected: "a dictionary" };
    assert_eq!(parse_scrape(b"d5:filesi1ee"), Err(wrong));
    let failure = ReplyError::Failure { reason: "no".to_owned(), retry_in: None };
    assert_eq!(parse_scrape(b"d14:failure reason2:noe"), Err(failure));
}
