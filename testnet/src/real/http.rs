//! A minimal blocking HTTP/1.1 client: one request a connection, over TCP or a unix socket.

use std::io::{self, BufRead, BufReader, Read, Write};

/// The most bytes of a status line with its headers. Ours are a few hundred.
const MAX_HEAD: u64 = 64 * 1024;
/// The most bytes of a body that is read as a whole.
const MAX_BODY: u64 = 16 * 1024 * 1024;

/// A request to send.
pub struct Request<'a> {
    /// Upper case, as in `GET`.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The `Host` header.
    pub host: &'a str,
    /// Body in JSON; empty for none.
    pub body: &'a [u8],
}

/// An answer whose body is still to be read.
pub struct Answer<S> {
    /// Status code, as in 200.
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Body<S>,
}

impl<S: Read> Answer<S> {
    /// The value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The whole body.
    pub fn text(self) -> io::Result<String> {
        let mut text = String::new();
        self.body.take(MAX_BODY).read_to_string(&mut text)?;
        Ok(text)
    }

    /// The body as a stream, to be read line by line.
    pub fn reader(self) -> impl BufRead {
        BufReader::new(self.body)
    }
}

/// Sends one request and reads the head of the answer.
pub fn ask<S: Read + Write>(mut stream: S, request: &Request) -> io::Result<Answer<S>> {
    let Request { method, target, host, body } = request;
    let mut bytes =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n").into_bytes();
    if !body.is_empty() || *method != "GET" {
        bytes.extend(
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()).bytes(),
        );
    }
    bytes.extend(b"\r\n");
    bytes.extend(*body);
    stream.write_all(&bytes)?;
    stream.flush()?;
    let mut stream = BufReader::new(stream);
    loop {
        let (status, headers) = head(&mut stream)?;
        // 1xx answers precede the real one.
        if status >= 200 {
            let framing = framing(status, &headers)?;
            return Ok(Answer { status, headers, body: Body { stream, framing } });
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not HTTP: {what}"))
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(MAX_HEAD).read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the answer ends in the middle of a line",
        ));
    }
    Ok(line.trim_end().to_owned())
}

type Headers = Vec<(String, String)>;

fn head(stream: &mut impl BufRead) -> io::Result<(u16, Headers)> {
    let mut left = MAX_HEAD;
    let mut next = || {
        let line = line(stream)?;
        left = left
            .checked_sub(line.len() as u64 + 1)
            .ok_or_else(|| bad("its headers have no end"))?;
        Ok::<_, io::Error>(line)
    };
    let first = next()?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status =
        status.filter(|_| first.starts_with("HTTP/1.")).ok_or_else(|| bad("no status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = next()?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

enum Framing {
    /// Bytes that are left.
    Length(u64),
    /// Bytes that are left in this chunk; 0: the next chunk's size follows.
    Chunks(u64),
    /// The body ends when the connection closes.
    Close,
}

fn framing(status: u16, headers: &Headers) -> io::Result<Framing> {
    let of = |name: &str| {
        headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    if status == 204 || status == 304 {
        return Ok(Framing::Length(0));
    }
    if of("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(Framing::Chunks(0));
    }
    match of("content-length") {
        Some(length) => {
            length.parse().map(Framing::Length).map_err(|_| bad("a length that is no number"))
        }
        None => Ok(Framing::Close),
    }
}

struct Body<S> {
    stream: BufReader<S>,
    framing: Framing,
}

impl<S: Read> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunks(0) = self.framing {
            self.framing = self.next_chunk()?;
        }
        let (Framing::Length(left) | Framing::Chunks(left)) = &mut self.framing else {
            return self.stream.read(buffer);
        };
        let wanted = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the answer's body was cut off",
            ));
        }
        *left -= read as u64;
        if let Framing::Chunks(0) = self.framing {
            line(&mut self.stream)?;
        }
        Ok(read)
    }
}

impl<S: Read> Body<S> {
    fn next_chunk(&mut self) -> io::Result<Framing> {
        let size = line(&mut self.stream)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        match u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk without a size"))? {
            // The last chunk; trailers may follow and are not read.
            0 => Ok(Framing::Length(0)),
            size => Ok(Framing::Chunks(size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that answers with fixed bytes, a few at a time.
    struct Canned(io::Cursor<&'static [u8]>, Vec<u8>);

    impl Read for Canned {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let few = buffer.len().min(3);
            self.0.read(&mut buffer[..few])
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked(answer: &'static str) -> io::Result<Answer<Canned>> {
        let request = Request { method: "GET", target: "/", host: "hello.localhost", body: &[] };
        ask(Canned(io::Cursor::new(answer.as_bytes()), Vec::new()), &request)
    }

    #[test]
    fn body_ends_by_length_chunks_or_close() {
        let answer = asked(
            "HTTP/1.1 200 OK\r\nX-Shoal-Node: n1\r\nContent-Length: 5\r\n\r\nhello, and more",
        )
        .unwrap();
        assert_eq!((answer.status, answer.header("x-shoal-node")), (200, Some("n1")));
        assert_eq!(answer.text().unwrap(), "hello");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: \
            chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        assert_eq!(asked(chunked).unwrap().text().unwrap(), "hello world");
        assert_eq!(
            asked("HTTP/1.1 503 No\r\n\r\nuntil the end").unwrap().text().unwrap(),
            "until the end"
        );
        assert_eq!(asked("HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 204 None\r\n\r\n").unwrap().status, 204);
    }

    #[test]
    fn truncated_or_foreign_answer_is_an_error() {
        assert!(asked("").is_err());
        assert!(asked("SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(
            asked("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").unwrap().text().is_err()
        );
        assert!(
            asked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
                .unwrap()
                .text()
                .is_err()
        );
        assert!(
            asked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
                .unwrap()
                .text()
                .is_err()
        );
    }

    #[test]
    fn lines_are_read_across_chunks() {
        let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: \
            chunked\r\n\r\n4\r\n{}\n{\r\n2\r\n}\n\r\n0\r\n\r\n";
        let lines: Vec<String> =
            asked(stream).unwrap().reader().lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["{}", "{}"]);
    }
}
