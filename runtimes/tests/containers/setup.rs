//! The adapter cannot be made: the error says why. These need no engine.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use shoal_runtimes::container::{Config, Containers, SetupError};

/// The error of an adapter on a socket that answers each request with `body`.
async fn error_of(body: &'static str) -> SetupError {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(head.as_bytes());
        }
    });
    let mut config = Config::new("n1", folder.path().join("logs"));
    config.socket = Some(socket);
    Containers::new(config).await.err().expect("it is of no use")
}

#[tokio::test]
async fn engine_that_is_too_old_is_named_with_its_version() {
    let error = error_of(r#"{"Version":"19.03.1","ApiVersion":"1.40","Components":[]}"#).await;
    assert!(matches!(&error, SetupError::TooOld { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("Docker 19.03.1 speaks API 1.40"), "{text}");
}

#[tokio::test]
async fn server_that_is_no_engine_is_of_no_use() {
    let error = error_of("hello").await;
    assert!(matches!(&error, SetupError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn absent_socket_and_bad_owner_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new("n1", folder.path().join("logs"));
    config.socket = Some(folder.path().join("none.sock"));
    let error = Containers::new(config.clone()).await.err().unwrap();
    assert!(matches!(&error, SetupError::NoEngine(_)), "{error}");
    assert!(error.to_string().contains("none.sock"), "{error}");
    config.owner = "n*".into();
    let error = Containers::new(config).await.err().unwrap();
    assert!(matches!(&error, SetupError::Owner(_)), "{error}");
}
