//! Sessions of a person with a running container: commands, output, files, ports.

use futures::{StreamExt, TryStreamExt};
use shoal_protocol::model::access::Exec;
use shoal_runtimes::session::{Chunks, Output, Process, SessionError, Sessions};
use shoal_runtimes::{Payload, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::engines::harness::{Harness, id_of, mode, server};
use crate::engines::{Kind, shared};

on_both! {
    command_gets_input_and_gives_output_and_its_code
    command_has_a_terminal_of_the_operators_size
    command_that_cannot_run_is_named
    attached_operator_sees_what_it_writes
    attached_operator_writes_to_the_program
    files_go_in_and_come_out
    ports_of_it_are_reached
    stopped_container_takes_no_session
}

async fn running(kind: Kind) -> Harness {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| {})).await;
    harness
}

pub fn command(words: &[&str]) -> Exec {
    Exec { command: words.iter().map(|&word| word.to_owned()).collect(), ..Exec::default() }
}

/// Standard output and error to the end, and the code.
pub async fn end_of(process: Process) -> (String, String, Option<i64>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let Process { mut output, control, .. } = process;
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            Output::Out(bytes) => out.extend(bytes),
            Output::Err(bytes) => err.extend(bytes),
        }
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), control.exit_code().await)
}

/// A megabyte, more than any buffer on the way, both ways at once.
async fn command_gets_input_and_gives_output_and_its_code(kind: Kind) {
    let harness = running(kind).await;
    let cat = Exec { input: true, ..command(&["/server", "cat", "7"]) };
    let mut process = harness.containers.exec(&id_of("a/0"), cat).await.unwrap();
    let text = "0123456789abcde\n".repeat(1 << 16);
    let mut input = process.input.take().unwrap();
    let sent = text.clone();
    let sending = tokio::spawn(async move {
        input.write_all(sent.as_bytes()).await.unwrap();
        input.shutdown().await.unwrap();
    });
    let (out, err, code) = end_of(process).await;
    sending.await.unwrap();
    assert_eq!((out == text, err.as_str(), code), (true, "1048576 bytes\n", Some(7)));
}

async fn command_has_a_terminal_of_the_operators_size(kind: Kind) {
    let harness = running(kind).await;
    let size = Exec { input: true, terminal: Some((101, 33)), ..command(&["/server", "size"]) };
    let mut process = harness.containers.exec(&id_of("a/0"), size).await.unwrap();
    let mut input = process.input.take().unwrap();
    for (wanted, next) in [("101x33", Some((120, 40))), ("120x40", None)] {
        let mut seen = String::new();
        while !seen.contains(wanted) {
            input.write_all(b"\n").await.unwrap();
            match process.output.next().await.unwrap().unwrap() {
                Output::Out(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                Output::Err(_) => panic!("a terminal has one output"),
            }
        }
        if let Some((columns, rows)) = next {
            process.control.resize(columns, rows).await;
        }
    }
}

/// Both engines run it, and tell of it by its output and a code.
async fn command_that_cannot_run_is_named(kind: Kind) {
    let harness = running(kind).await;
    match harness.containers.exec(&id_of("a/0"), command(&["/nosuch"])).await {
        Ok(process) => {
            let (out, err, code) = end_of(process).await;
            assert!(format!("{out}{err}").contains("nosuch"), "{out}{err}");
            assert!(!err.contains("unixpacket"), "only why it cannot run: {err}");
            assert!(matches!(code, Some(126 | 127)), "{code:?}");
        }
        Err(error) => assert!(error.to_string().contains("nosuch"), "{error}"),
    }
}

async fn attached_operator_sees_what_it_writes(kind: Kind) {
    let harness = running(kind).await;
    let mut process = harness.containers.attach(&id_of("a/0"), None).await.unwrap();
    harness.get(&id_of("a/0"), "/say?a-word").await;
    let mut seen = String::new();
    while !seen.contains("a-word") {
        match process.output.next().await.expect("it goes on").unwrap() {
            Output::Out(bytes) | Output::Err(bytes) => {
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// The program reads lines, and says the size of its terminal for each.
async fn attached_operator_writes_to_the_program(kind: Kind) {
    let harness = Harness::settling(shared(kind), std::time::Duration::ZERO).await;
    let mut launch = mode("a/0", "size");
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    (payload.stdin, payload.tty) = (true, true);
    harness.run(launch).await;
    let size = Some((101, 33));
    let mut process = harness.containers.attach(&id_of("a/0"), size).await.unwrap();
    let mut input = process.input.take().expect("its standard input is open");
    let mut seen = String::new();
    while !seen.contains("101x33") {
        input.write_all(b"\n").await.unwrap();
        match process.output.next().await.expect("it goes on").unwrap() {
            Output::Out(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Output::Err(_) => panic!("a terminal has one output"),
        }
    }
    drop((process, input));
    // The input is open for the next one, too.
    let mut process = harness.containers.attach(&id_of("a/0"), size).await.unwrap();
    process.input.take().unwrap().write_all(b"\n").await.unwrap();
    assert!(matches!(process.output.next().await, Some(Ok(Output::Out(_)))));
    let silent = harness.containers.attach(&id_of("a/0"), None).await.unwrap();
    assert!(silent.input.is_none(), "nobody asked for one");
}

async fn files_go_in_and_come_out(kind: Kind) {
    let harness = running(kind).await;
    let id = id_of("a/0");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    builder.append_data(&mut header, "note", &b"hello"[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    let archive: Chunks = futures::stream::iter([Ok(bytes.into())]).boxed();
    harness.containers.write(&id, "/".into(), archive).await.unwrap();
    assert_eq!(harness.get(&id, "/read?/note").await, "hello");
    let read = harness.containers.read(&id, "/note".into()).await.unwrap();
    let bytes: Vec<u8> = read.try_collect::<Vec<_>>().await.unwrap().concat();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
    assert_eq!(text, "hello");
    let archive: Chunks = futures::stream::iter([Ok(vec![0; 1024].into())]).boxed();
    let into_nothing = harness.containers.write(&id, "/nosuch".into(), archive).await;
    assert!(matches!(into_nothing, Err(SessionError::Refused(_))), "{into_nothing:?}");
    let absent = harness.containers.read(&id, "/nosuch".into()).await;
    assert!(matches!(absent.err(), Some(SessionError::Refused(_))));
}

async fn ports_of_it_are_reached(kind: Kind) {
    let harness = running(kind).await;
    let mut stream = harness.containers.connect(&id_of("a/0"), 8080).await.unwrap();
    stream.write_all(b"GET /env HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = harness.containers.connect(&id_of("a/0"), 81).await.err().unwrap();
    assert!(refused.to_string().contains("port 81"), "{refused}");
}

async fn stopped_container_takes_no_session(kind: Kind) {
    let harness = running(kind).await;
    let id = id_of("a/0");
    harness.containers.stop(&id, std::time::Duration::ZERO).await.unwrap();
    let refused = harness.containers.exec(&id, command(&["/server", "cat"])).await.err().unwrap();
    assert_eq!(refused, SessionError::NotRunning(id));
}
