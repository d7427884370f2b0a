//! Which addresses a hop may connect to.

use std::net::IpAddr;

use bt_types::is_public;

/// The addresses that a hop may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllowedAddresses {
    /// Any address: the user named the host, or a host with a private address redirected to it.
    Any,
    /// Public addresses only: a host with a public address redirected to it.
    Public,
}

impl AllowedAddresses {
    /// Returns what the next hop may connect to, after one that connected to `address`. An unknown
    /// address counts as public.
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
    fn public_hop_forbids_private_ones() {
        let (public, private) = ("1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        assert_eq!(AllowedAddresses::Any.after(Some(private)), AllowedAddresses::Any);
        assert_eq!(AllowedAddresses::Any.after(Some(public)), AllowedAddresses::Public);
        assert_eq!(AllowedAddresses::Any.after(None), AllowedAddresses::Public);
        assert_eq!(AllowedAddresses::Public.after(Some(private)), AllowedAddresses::Public);
        assert!(AllowedAddresses::Any.permits(private) && AllowedAddresses::Any.permits(public));
        assert!(
            AllowedAddresses::Public.permits(public) && !AllowedAddresses::Public.permits(private)
        );
    }
}
