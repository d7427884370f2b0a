//! Which addresses a hop may go to.

use std::net::IpAddr;

use bt_types::is_public;

/// What a hop may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any address: the user named the host, or a host of the local network redirected.
    Any,
    /// Public addresses only: a public host redirected.
    Public,
}

impl Reach {
    /// What the next hop may connect to, after one that went to `address`.
    pub(super) fn after(self, address: Option<IpAddr>) -> Self {
        match address {
            Some(address) if !is_public(address) => self,
            _ => Self::Public,
        }
    }

    pub(super) fn permits(self, address: IpAddr) -> bool {
        self == Self::Any || is_public(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_public_always_public() {
        let (public, private) = ("1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        assert_eq!(Reach::Any.after(Some(private)), Reach::Any);
        assert_eq!(Reach::Any.after(Some(public)), Reach::Public);
        assert_eq!(Reach::Any.after(None), Reach::Public);
        assert_eq!(Reach::Public.after(Some(private)), Reach::Public);
        assert!(Reach::Any.permits(private) && Reach::Any.permits(public));
        assert!(Reach::Public.permits(public) && !Reach::Public.permits(private));
    }
}
