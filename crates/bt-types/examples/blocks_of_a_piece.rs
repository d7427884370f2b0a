//! Prints the block requests that fetch one piece.
//!
//! `cargo run -p bt-types --example blocks_of_a_piece -- TOTAL PIECE_LENGTH INDEX`

use bt_types::Geometry;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [total, piece_length, index] = numbers[..] else {
        return Err("usage: blocks_of_a_piece TOTAL PIECE_LENGTH INDEX".into());
    };
    let geometry = Geometry::new(total, piece_length)?;
    let piece = u32::try_from(index).ok().and_then(|index| geometry.piece(index));
    let piece = piece.ok_or_else(|| format!("the last piece is {}", geometry.piece_count() - 1))?;
    for block in geometry.blocks(piece) {
        println!("piece {piece}: {} bytes at {}", block.length(), block.offset());
    }
    Ok(())
}
