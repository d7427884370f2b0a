//! Tests of the program as a child process: its output and its exit code.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

mod create;
mod decode;
mod descriptors;
mod dht;
mod download;
mod download_piece;
mod handshake;
mod help;
mod info;
mod json;
mod links;
mod messages;
mod seed;
mod support;
mod terminal;
mod trackers;
mod verify;
