//! A program with a beginning and an end: the world `wasi:cli/command`, not one that answers HTTP.

fn main() {
    println!("ran once, and is done");
}
