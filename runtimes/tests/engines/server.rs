//! The program of the test images: an HTTP server without any dependency, compiled by the tests for
//! a static target. Its first argument, or the variable `MODE`, says how it behaves.

use std::env;
use std::ffi::c_int;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::thread;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn write(file: c_int, bytes: *const u8, count: usize) -> isize;
    fn _exit(code: c_int) -> !;
    fn ioctl(file: c_int, request: c_int, ...) -> c_int;
}

const SIGTERM: c_int = 15;
const TIOCGWINSZ: c_int = 0x5413;
const IGNORE: usize = 1;

/// Says so, by calls that are legal in a signal handler, and ends.
extern "C" fn leave(_: c_int) {
    let text = b"asked to end\n";
    unsafe {
        write(1, text.as_ptr(), text.len());
        _exit(0)
    }
}

fn main() {
    let mode = env::args().nth(1).or_else(|| env::var("MODE").ok()).unwrap_or_default();
    match mode.as_str() {
        "exit" => {
            println!("one");
            for n in 0..500 {
                println!("line {n}");
            }
            eprintln!("the last words");
            std::process::exit(3)
        }
        "end" => {
            let code = env::args().nth(2).and_then(|code| code.parse().ok()).unwrap_or_default();
            println!("about to exit");
            eprintln!("with code {code}");
            std::process::exit(code)
        }
        "crash" => {
            // A signal that it sends itself would be ignored, as it is the first process.
            unsafe { std::ptr::write_volatile(std::ptr::without_provenance_mut::<u8>(8), 1) };
        }
        "eat" => eat(1 << 20),
        "wait" => {
            unsafe { signal(SIGTERM, leave as extern "C" fn(c_int) as usize) };
            println!("waiting");
            loop {
                thread::park();
            }
        }
        // Copies its input, and ends with the code that is its second argument.
        "cat" => {
            let mut input = Vec::new();
            std::io::stdin().read_to_end(&mut input).expect("input");
            std::io::stdout().write_all(&input).expect("output");
            eprintln!("{} bytes", input.len());
            std::process::exit(env::args().nth(2).and_then(|code| code.parse().ok()).unwrap_or(0))
        }
        // Writes a file, after so many milliseconds.
        "note" => {
            let of = |at: usize| env::args().nth(at).unwrap_or_default();
            thread::sleep(std::time::Duration::from_millis(of(4).parse().unwrap_or(0)));
            println!("noted");
            fs::write(of(2), of(3)).expect("a file");
        }
        "show" => {
            let path = env::args().nth(2).unwrap_or_default();
            print!("{}", fs::read_to_string(path).unwrap_or_else(|error| format!("{error}")));
        }
        "fetch" => match fetch(&env::args().nth(2).unwrap_or_default()) {
            Ok(answer) => println!("{answer}"),
            Err(error) => {
                println!("failed: {error}");
                std::process::exit(1)
            }
        },
        // Says the size of its terminal for each line of input.
        "size" => {
            for _ in std::io::stdin().lines() {
                let mut size = [0u16; 4];
                unsafe { ioctl(0, TIOCGWINSZ, size.as_mut_ptr()) };
                println!("{}x{}", size[1], size[0]);
            }
        }
        "deaf" => {
            unsafe { signal(SIGTERM, IGNORE) };
            serve();
        }
        _ => {
            unsafe { signal(SIGTERM, leave as extern "C" fn(c_int) as usize) };
            serve();
        }
    }
}

fn serve() {
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = TcpListener::bind(("0.0.0.0", port.parse().expect("a port"))).expect("a port");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    println!("{target} answered");
    let (path, argument) = target.split_once('?').unwrap_or((&target, ""));
    let text = match path {
        "/env" => env::vars().fold(String::new(), |mut all, (name, value)| {
            let _ = writeln!(all, "{name}={value}");
            all
        }),
        "/exit" => std::process::exit(argument.parse().ok()?),
        "/eat" => {
            eat(argument.parse().ok()?);
            "eaten".into()
        }
        // `KEY value` lines about the container, as its program sees it.
        "/facts" => facts(),
        "/read" => fs::read_to_string(argument).unwrap_or_else(|error| format!("{error}")),
        "/write" => match fs::write(argument, "x") {
            Ok(()) => "written".into(),
            Err(error) => format!("{error}"),
        },
        // The answer of another server, `HOST:PORT`, by the container's own resolver.
        "/fetch" => fetch(argument).unwrap_or_else(|error| format!("failed: {error}")),
        "/say" => {
            println!("{argument}");
            "said".into()
        }
        _ => format!(
            "hello, {}\npath {target}\n",
            env::var("NAME").unwrap_or_else(|_| "world".into())
        ),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(text.as_bytes()).ok()
}

fn fetch(server: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"GET /env HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn eat(mib: usize) {
    let mut all = Vec::new();
    for _ in 0..mib {
        all.push(black_box(vec![1u8; 1 << 20]));
    }
    black_box(all);
}

fn facts() -> String {
    let mut text = String::new();
    let me = fs::metadata("/proc/self").map(|data| (data.uid(), data.gid())).unwrap_or_default();
    let _ = writeln!(text, "user {}:{}", me.0, me.1);
    let _ = writeln!(text, "workdir {}", env::current_dir().unwrap_or_default().display());
    let arguments: Vec<_> = env::args().skip(1).collect();
    let _ = writeln!(text, "arguments {}", arguments.join(" "));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let _ = writeln!(text, "hostname {}", host.trim());
    for line in fs::read_to_string("/proc/self/limits").unwrap_or_default().lines() {
        if line.starts_with("Max open files") {
            let words: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
            let _ = writeln!(text, "nofile {}", words.join(":"));
        }
    }
    for line in fs::read_to_string("/proc/mounts").unwrap_or_default().lines() {
        let words: Vec<_> = line.split(' ').collect();
        if let [_, path, kind, options, ..] = words[..] {
            let _ = writeln!(text, "mount {path} {kind} {options}");
        }
    }
    text
}
