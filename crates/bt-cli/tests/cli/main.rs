//! The program as its users meet it: a child process, its output, its exit code.

mod create;
mod decode;
mod descriptors;
mod download;
mod download_piece;
mod handshake;
mod help;
mod info;
mod json;
mod messages;
mod seed;
mod support;
mod terminal;
mod trackers;
mod verify;
