//! A program that runs once and ends: the world `wasi:cli/command`. Its arguments say how:
//! `exit CODE`, `env`, `args`, `sleep MILLISECONDS`, `panic`, `loop`, `gorge MIB`, `lines N`,
//! `read FILE`, `append FILE TEXT`; without any it says so and succeeds.

use std::io::Write;
use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => println!("ran once, and is done"),
        ["exit", code] => {
            println!("about to exit");
            eprintln!("with code {code}");
            // `std::process::exit` tells only whether it succeeded.
            wasip2::cli::exit::exit_with_code(code.parse().expect("a code"));
        }
        ["env"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["args", rest @ ..] => println!("{}", rest.join("|")),
        ["sleep", millis] => {
            println!("sleeping");
            std::thread::sleep(Duration::from_millis(millis.parse().expect("milliseconds")));
            println!("slept");
        }
        ["panic"] => panic!("on purpose"),
        ["loop"] => loop {
            std::hint::black_box(0);
        },
        ["gorge", mib] => {
            let mib: usize = mib.parse().expect("a number of MiB");
            let all: Vec<Vec<u8>> = (0..mib).map(|_| vec![1; 1 << 20]).collect();
            println!("has {} MiB", std::hint::black_box(all).len());
        }
        ["lines", n] => (0..n.parse().expect("a number")).for_each(|i: u32| println!("line {i}")),
        // Files are those of its volumes.
        ["read", file] => match std::fs::read_to_string(file) {
            Ok(text) => println!("{text}"),
            Err(error) => fail(file, &error),
        },
        ["append", file, text] => {
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
            match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
                Ok(()) => println!("appended"),
                Err(error) => fail(file, &error),
            }
        }
        ["stdin"] => {
            let mut text = String::new();
            std::io::stdin().read_line(&mut text).expect("an end");
            println!("read {} bytes", text.len());
        }
        other => {
            eprintln!("unknown arguments: {other:?}");
            std::process::exit(2);
        }
    }
}

fn fail(file: &str, error: &std::io::Error) {
    println!("{file}: {:?}", error.kind());
    std::process::exit(1);
}
