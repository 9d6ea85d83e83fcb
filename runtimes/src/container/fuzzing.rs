//! Target: what a container engine answers, and what programs in containers write through it.

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use shoal_protocol::fuzzing::Target;

use super::engine::{loading_failed, parse};
use super::forms::{
    Event, Info, Inspected, Listed, ListedImage, ListedVolume, Pulling, Stats, Version, Volumes,
};
use super::refusal::{CallError, Step, failure};
use super::sessions::{frame, is_noise, whole};
use crate::session::Output;

/// Output of a session, an error or an answer in JSON, by the first byte.
pub const TARGET: Target = Target { name: "engine", run, seeds, most: 4_096 };

fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 8 {
        0 | 1 => output(bytes, *kind % 8 == 1),
        2 => refused(bytes),
        3 => {
            if let Some(inspected) = from::<Inspected>(bytes) {
                _ = (inspected.phase(), inspected.address(), inspected.published(80));
                _ = (inspected.is_paused(), inspected.started_at().is_some());
            }
        }
        4 => _ = from::<Stats>(bytes).and_then(|it| it.usage()),
        5 => _ = from::<Pulling>(bytes).and_then(|it| it.failure()),
        6 => {
            if let Some(listed) = from::<Listed>(bytes) {
                _ = (listed.phase(), listed.label("shoal").is_some());
            }
            _ = from::<ListedVolume>(bytes).map(|it| it.label("shoal").is_some());
            _ = (from::<Volumes>(bytes).is_some(), from::<ListedImage>(bytes).is_some());
        }
        _ => {
            _ = (from::<Event>(bytes).is_some(), from::<Info>(bytes).is_some());
            _ = (from::<Version>(bytes).is_some(), loading_failed(bytes));
            _ = parse(&String::from_utf8_lossy(bytes));
        }
    }
}

fn from<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// Comes in parts, and no byte is told twice or kept without need.
fn output(bytes: &[u8], raw: bool) {
    let (mut buffer, mut told) = (BytesMut::new(), 0);
    for part in bytes.chunks(7) {
        buffer.extend_from_slice(part);
        loop {
            let piece = if raw { Ok(whole(&mut buffer)) } else { frame(&mut buffer) };
            match piece {
                Ok(Some(piece)) => {
                    _ = is_noise(&piece);
                    let (Output::Out(piece) | Output::Err(piece)) = piece;
                    told += piece.len();
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(told + buffer.len() <= bytes.len(), "{told} of {} bytes", bytes.len());
}

fn refused(bytes: &[u8]) {
    for status in [400, 404, 409, 500] {
        let error = CallError::refused(status, bytes);
        _ = (error.no_such_container(), error.no_such_image(), error.already_so());
        for step in [Step::Create, Step::Start] {
            assert!(!failure("Docker", step, &error).reason.is_empty());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        (2, r#"{"message":"driver failed: port is already allocated"}"#),
        (2, "no such image"),
        (
            3,
            concat!(
                r#"{"Id":"a","State":{"Status":"running","Running":true,"#,
                r#""ExitCode":0,"#,
                r#""StartedAt":"2026-11-29T18:00:00Z"},"#,
                r#""NetworkSettings":{"IPAddress":"172.17.0.2","#,
                r#""Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]},"Networks":{"b":"#,
                r#"{"IPAddress":"10.0.0.2"}}}}"#
            ),
        ),
        (
            4,
            concat!(
                r#"{"cpu_stats":{"cpu_usage":{"total_usage":5},"throttling_data":"#,
                r#"{"throttled_time":1}},"memory_stats":{"usage":9},"networks":{"eth0":"#,
                r#"{"rx_bytes":1,"tx_bytes":2},"eth1":{"rx_bytes":1,"tx_bytes":2}},"blkio_stats":"#,
                r#"{"io_service_bytes_recursive":[{"op":"read","value":3},"#,
                r#"{"op":"read","value":4}]}}"#
            ),
        ),
        (5, r#"{"errorDetail":{"message":"denied"},"error":"denied"}"#),
        (6, r#"{"Id":"a","State":"running","Labels":{"shoal":"x"},"Names":["/a"]}"#),
        (7, "{}\n{\"errorDetail\":{\"message\":\"no\"}}"),
        (7, "1.41"),
    ];
    let texts = texts.map(|(kind, text)| [&[kind], text.as_bytes()].concat());
    let frames = b"\0\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x03bad".to_vec();
    let raw = b"\x01\x1b[2Jhi\x01\0\0\0\0\0\0\x02".to_vec();
    [frames, raw].into_iter().chain(texts).collect()
}
