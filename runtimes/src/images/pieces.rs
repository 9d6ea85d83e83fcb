//! The digests of a layer's pieces, taken while it is read.

use ring::digest::Context;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::PIECE;

use super::source::{finish, new};

/// Hashes pieces as the bytes pass.
pub(super) struct PieceHasher {
    piece: Context,
    filled: usize,
    done: Vec<Digest>,
}

impl Default for PieceHasher {
    fn default() -> Self {
        PieceHasher { piece: new(), filled: 0, done: Vec::new() }
    }
}

impl PieceHasher {
    pub fn update(&mut self, mut bytes: &[u8]) {
        let size = usize::try_from(PIECE).unwrap_or(usize::MAX);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(size - self.filled));
            self.piece.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == size {
                self.end_piece();
            }
        }
    }

    /// The digests, none of bytes that are a single piece.
    pub fn finish(mut self) -> Vec<Digest> {
        if self.filled > 0 {
            self.end_piece();
        }
        if self.done.len() > 1 { self.done } else { Vec::new() }
    }

    fn end_piece(&mut self) {
        self.done.push(finish(std::mem::replace(&mut self.piece, new())));
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes come, the pieces are the same; a layer of one piece has none.
    #[test]
    fn pieces_end_where_they_should() {
        let size = usize::try_from(PIECE).unwrap();
        let bytes: Vec<u8> = (0..2 * size + 5).map(|at| (at % 251) as u8).collect();
        let hashed = |bytes: &[u8], step: usize| {
            let mut hasher = PieceHasher::default();
            bytes.chunks(step).for_each(|chunk| hasher.update(chunk));
            hasher.finish()
        };
        let expected: Vec<Digest> = bytes.chunks(size).map(Digest::of).collect();
        assert_eq!(hashed(&bytes, 4_099), expected);
        assert_eq!(hashed(&bytes, bytes.len()), expected);
        assert_eq!(hashed(&bytes[..2 * size], size), expected[..2]);
        assert_eq!(hashed(&bytes[..size], 7_000), []);
    }
}
