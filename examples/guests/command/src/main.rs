//! A program that runs once and ends: the world `wasi:cli/command`, which shoal must refuse.

fn main() {
    println!("ran once, and is done");
}
