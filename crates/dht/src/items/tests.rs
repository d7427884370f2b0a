use std::time::Duration;

use super::*;
use crate::message::{Body, ErrorCode, Message, Method, MutablePut, Query};
use crate::node_id::OwnIds;

const OWN: OwnIds = OwnIds([Some(NodeId([0; 20])), None]);
const VALUE: &[u8] = b"12:Hello World!";
const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let digits: Vec<char> = text.chars().collect();
    let bytes = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("two digits"));
    bytes.collect::<Vec<u8>>().try_into().expect("the length")
}

fn mutable(salt: &[u8], signature: &str) -> Item {
    Item::Mutable {
        key: hex(KEY),
        salt: salt.to_vec(),
        seq: 1,
        value: VALUE.to_vec(),
        signature: hex(signature),
    }
}

/// BEP 44, "Test Vectors". The expanded private key there is no seed, so only verifying is tested.
#[test]
fn vectors_of_bep_44() {
    let signature = "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
                     1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01";
    let item = mutable(b"", signature);
    assert_eq!(item.target().to_string(), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
    assert_eq!(item.verify(), Ok(()));
    assert_eq!(mutable(b"foobar", signature).verify(), Err(ItemError::BadSignature));
    let signature = "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
                     df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08";
    let item = mutable(b"foobar", signature);
    assert_eq!(item.target().to_string(), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
    assert_eq!(item.verify(), Ok(()));
    let item = Item::immutable(VALUE.to_vec()).unwrap();
    assert_eq!(item.target().to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
}

#[test]
fn signed_item_verifies_until_it_is_changed() {
    let seed = &[7; 32];
    let sign =
        |salt: &[u8], seq, value: &[u8]| Item::sign(seed, salt.to_vec(), seq, value.to_vec());
    let item = sign(b"s", 5, b"i1e").unwrap();
    assert_eq!(item.verify(), Ok(()));
    assert_eq!(item.target(), mutable_target(&public_key(seed).unwrap(), b"s"));
    let Item::Mutable { key, salt, signature, .. } = item else { panic!("a mutable item") };
    for (seq, value) in [(6, b"i1e"), (5, b"i2e")] {
        let value = value.to_vec();
        let other = Item::Mutable { key, salt: salt.clone(), seq, value, signature };
        assert_eq!(other.verify(), Err(ItemError::BadSignature));
    }
    // A part of the sequence number must not pass for one of the value.
    assert_ne!(signed_bytes(b"", 1, b"2:ab"), signed_bytes(b"", 12, b"ab"));
}

#[test]
fn lengths_are_limited() {
    let value = |length: usize| {
        let text = "x".repeat(length - 4);
        format!("{}:{text}", text.len()).into_bytes()
    };
    assert!(Item::immutable(value(ITEM_LENGTH)).is_ok());
    let long = value(ITEM_LENGTH + 1);
    assert_eq!(Item::immutable(long), Err(ItemError::ValueTooLong(ITEM_LENGTH + 1)));
    let salted = |length| Item::sign(&[1; 32], vec![0; length], 1, b"i1e".to_vec());
    assert!(salted(SALT_LENGTH).is_ok());
    assert_eq!(salted(SALT_LENGTH + 1), Err(ItemError::SaltTooLong(SALT_LENGTH + 1)));
    let negative = Item::sign(&[1; 32], Vec::new(), -1, b"i1e".to_vec());
    assert_eq!(negative, Err(ItemError::NegativeSequenceNumber(-1)));
    assert!(Item::sign(&[1; 32], Vec::new(), i64::MAX, b"i1e".to_vec()).is_ok());
}

#[test]
fn values_must_be_canonical() {
    for value in ["", "i01e", "i-0e", "d1:bi1e1:ai2ee", "d1:ai1e1:ai2ee", "i1ei2e", "5:abc"] {
        let item = Item::immutable(value.as_bytes().to_vec());
        assert_eq!(item, Err(ItemError::NotCanonical), "{value}");
    }
    assert!(Item::immutable(b"d1:ai2e1:bi1ee".to_vec()).is_ok());
    let nested = |depth: usize| ["l".repeat(depth), "e".repeat(depth)].concat().into_bytes();
    let flat = |count: usize| format!("l{}e", "le".repeat(count)).into_bytes();
    for (make, most) in
        [(&nested as &dyn Fn(usize) -> Vec<u8>, VALUE_DEPTH), (&flat, VALUE_TOKENS / 2 - 1)]
    {
        assert!(Item::immutable(make(most)).is_ok());
        assert_eq!(Item::immutable(make(most + 1)), Err(ItemError::NotCanonical));
        // A node reads a message with the largest.
        let value = make(most);
        let item = Item::sign(&[1; 32], vec![1; SALT_LENGTH], 1, value.clone()).unwrap();
        let Item::Mutable { key, salt, seq, signature, .. } = &item else { panic!("mutable") };
        let mutable = Some(MutablePut { key, salt, seq: *seq, cas: Some(1), signature });
        let method = Method::Put { token: b"token", value: &value, mutable };
        let body = Body::Query(Query { id: NodeId([1; 20]), method });
        let mut out = Vec::new();
        Message { transaction: b"tttt", body, ip: None, read_only: true, version: Some(b"XX01") }
            .encode(&mut out);
        let read = Message::decode(&out).unwrap();
        assert!(matches!(read.body, Body::Query(Query { method: Method::Put { .. }, .. })));
    }
}

fn at(ip: u32) -> SocketAddr {
    (std::net::Ipv4Addr::from_bits(0x2d00_0000 + ip), 6881).into()
}

fn signed(seq: i64, value: &str) -> Item {
    Item::sign(&[1; 32], Vec::new(), seq, value.as_bytes().to_vec()).unwrap()
}

#[test]
fn versions_only_grow() {
    let mut store = ItemStore::new();
    let target = signed(1, "i1e").target();
    let mut put = |item: Item, cas: Option<i64>| {
        let result = store.put(Duration::ZERO, OWN, at(1), item, cas);
        (result, store.get(&target).and_then(Item::seq))
    };
    let refused = |code| Err(PutRefused::With(code));
    assert_eq!(put(signed(5, "i5e"), Some(3)), (Ok(()), Some(5)), "nothing to compare with");
    assert_eq!(put(signed(4, "i4e"), None), (refused(ErrorCode::OldSequenceNumber), Some(5)));
    assert_eq!(put(signed(5, "i6e"), None), (refused(ErrorCode::OldSequenceNumber), Some(5)));
    assert_eq!(put(signed(5, "i5e"), None), (Ok(()), Some(5)), "the same again");
    assert_eq!(put(signed(6, "i6e"), Some(4)), (refused(ErrorCode::CasMismatch), Some(5)));
    assert_eq!(put(signed(6, "i6e"), Some(5)), (Ok(()), Some(6)));
    let mut forged = signed(7, "i7e");
    if let Item::Mutable { signature, .. } = &mut forged {
        signature[0] ^= 1;
    }
    assert_eq!(put(forged, None), (refused(ErrorCode::BadSignature), Some(6)));
    assert_eq!(put(signed(i64::MAX, "i8e"), None), (Ok(()), Some(i64::MAX)));
}

#[test]
fn items_are_limited_and_farthest_goes() {
    let mut store = ItemStore::new();
    let mut put = |number: usize, from: u32| {
        let item = Item::immutable(format!("i{number}e").into_bytes()).unwrap();
        let target = item.target();
        let stored = store.put(Duration::ZERO, OWN, at(from), item, None);
        (stored.is_ok(), target, store.items.len(), store.items.keys().max().copied())
    };
    for number in 0..ITEMS_PER_ADDRESS {
        assert!(put(number, 1).0);
    }
    assert!(!put(ITEMS_PER_ADDRESS, 1).0, "one address has too many");
    let v6 = |last: u16| {
        SocketAddr::from((std::net::Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0, 0, last), 6881))
    };
    let mut of_net = ItemStore::new();
    let stored = (0..100_u16).filter(|last| {
        let item = Item::immutable(format!("i{last}e").into_bytes()).unwrap();
        of_net.put(Duration::ZERO, OWN, v6(*last), item, None).is_ok()
    });
    assert_eq!(stored.count(), ITEMS_PER_ADDRESS, "an IPv6 /64 is one owner");
    for number in ITEMS_PER_ADDRESS..MAX_ITEMS {
        assert!(put(number, 1000 + number as u32).0);
    }
    let mut refused = 0;
    for number in MAX_ITEMS..2 * MAX_ITEMS {
        let (is_stored, target, count, farthest) = put(number, 1000 + number as u32);
        assert_eq!(count, MAX_ITEMS);
        assert!(is_stored || Some(target) > farthest);
        refused += usize::from(!is_stored);
    }
    assert!(refused > 0 && refused < MAX_ITEMS);
    assert!(store.memory() <= 1 << 20);
    store.expire(ITEM_LIFETIME - Duration::from_secs(1));
    assert_eq!(store.items.len(), MAX_ITEMS);
    store.expire(ITEM_LIFETIME);
    assert_eq!(store.items.len(), 0);
}

#[test]
fn verifications_are_limited() {
    let mut store = ItemStore::new();
    let now = Duration::from_secs(10);
    let results = (0..200).map(|seq| {
        let from = at(seq << 8);
        let mut item = signed(i64::from(seq), "i1e");
        if let Item::Mutable { signature, .. } = &mut item {
            signature[0] ^= 1;
        }
        store.put(now, OWN, from, item, None)
    });
    let silent = results.filter(|result| *result == Err(PutRefused::Silently)).count();
    assert_eq!(silent, 150);
}
