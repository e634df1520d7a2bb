//! Ask Token Broker for access tokens: a client on Rust's standard library, to be copied into a program.
//!
//!     let token = get_token("directory", None)?; // ask for each use: the broker keeps it fresh
//!     let value = format!("{} {}", token.token_type, token.access_token);
//!     let token = get_token("directory", Some(&token.etag))?; // once, when the API answered 401
//!
//! As a program it prints what kind of token there is, and with --print the token.

use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const ANSWER_TIME: Duration = Duration::from_secs(15); // for a whole answer; the broker waits for its server for 10 s
const LARGEST_ANSWER: usize = 262_144; // bytes; the broker itself reads no larger ones
const LONGEST_WAIT: u64 = 10; // seconds; who is told to come back later than that fails at once

/// No `Debug`: the token is not to be printed by accident.
pub struct Token {
    pub access_token: String,
    pub token_type: String,
    pub expires_in: u64,
    pub etag: String,
}

/// Why there is no token. `code` is the `error` of the broker; "consent_required" is for a person, and never retried.
#[derive(Debug)]
pub struct BrokerError {
    pub code: String,
    pub text: String,
}

fn no(code: &str, text: String) -> BrokerError {
    let code = code.to_string();
    BrokerError { code, text }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Gives a usable token; `rejected` is the ETag of one that the API refused.
pub fn get_token(name: &str, rejected: Option<&str>) -> Result<Token, BrokerError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let named = name.len() <= 63 && name.starts_with(plain);
    if !named || !name.chars().all(|c| plain(c) || "._-".contains(c)) {
        return Err(no(
            "bad_name",
            ": names have a-z, 0-9, \".\", \"_\" and \"-\"".to_string(),
        ));
    }
    let (mut broken, mut waited) = (0, 0);
    loop {
        let mut stream = connect()?;
        let answer = match ask(&mut stream, name, rejected) {
            Ok(answer) => answer,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    return Err(no("unreachable", ": no answer in time".to_string()));
                }
                ErrorKind::InvalidData => return Err(no("answer_too_large", String::new())),
                _ if broken == 1 => return Err(no("unreachable", format!(": {error}"))),
                _ => {
                    broken += 1; // it went away before it had answered: once more, and not for ever
                    continue;
                }
            },
        };
        let text = |name: &str| member(&answer.body, name).unwrap_or_default();
        if answer.status == 200 {
            return Ok(Token {
                access_token: text("access_token"),
                token_type: text("token_type"),
                expires_in: text("expires_in").parse().unwrap_or(0),
                etag: header(&answer.head, "etag").unwrap_or_default(),
            });
        }
        let wait = header(&answer.head, "retry-after")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(1);
        if [429, 503].contains(&answer.status) && waited < 2 && wait <= LONGEST_WAIT {
            waited += 1; // not now: as long as it says
            std::thread::sleep(Duration::from_secs(wait));
            continue;
        }
        let hint = member(&answer.body, "hint").unwrap_or_else(|| text("error_description"));
        return Err(no(&text("error"), format!(" ({}): {hint}", answer.status)));
    }
}

fn connect() -> Result<UnixStream, BrokerError> {
    let default = || "unix:///run/token-broker/api.sock".to_string();
    let socket = std::env::var("TOKEN_BROKER_SOCKET").unwrap_or_else(|_| default());
    let path = socket
        .strip_prefix("unix://")
        .filter(|path| path.starts_with('/'));
    let path = path.ok_or_else(|| {
        no(
            "bad_socket",
            ": TOKEN_BROKER_SOCKET has to be unix:///PATH".to_string(),
        )
    })?;
    for attempt in 1.. {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if attempt == 10 => {
                return Err(no("unreachable", format!(": {path}: {error}")))
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)), // a broker that restarts is back in a second or so
        }
    }
    unreachable!()
}

fn ask(stream: &mut UnixStream, name: &str, rejected: Option<&str>) -> Result<Answer, Error> {
    // HTTP/1.0: one answer, with its length, and the connection ends.
    let mut request = format!("GET /v1/tokens/{name} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    if let Some(etag) = rejected {
        let body = format!(
            "{{\"rejected\":\"{}\"}}",
            etag.replace('\\', "\\\\").replace('"', "\\\"")
        );
        let media = format!(
            "Content-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        request = format!(
            "POST /v1/tokens/{name}/refresh HTTP/1.0\r\nHost: localhost\r\n{media}\r\n\r\n{body}"
        );
    }
    let deadline = Instant::now() + ANSWER_TIME;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    stream.write_all(request.as_bytes())?;
    let (mut read, mut piece) = (Vec::new(), [0; 8_192]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut piece)? {
            0 => break,
            size => read.extend_from_slice(&piece[..size]),
        }
        if read.len() > LARGEST_ANSWER {
            return Err(ErrorKind::InvalidData.into());
        }
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    let answer = String::from_utf8_lossy(&read);
    let broken = || {
        Error::new(
            ErrorKind::UnexpectedEof,
            "the connection broke before an answer",
        )
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let length = header(head, "content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(usize::MAX);
    let status = head
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .ok_or_else(broken)?;
    if body.len() < length {
        return Err(broken());
    }
    Ok(Answer {
        status,
        head: head.to_string(),
        body: body.to_string(),
    })
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(value.trim().to_string())
}

/// Enough of JSON for the broker's answers: a name with its quotes and a colon cannot stand within a text of them.
fn member(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let rest = rest.trim_start();
    if !rest.starts_with('"') {
        return Some(rest.chars().take_while(char::is_ascii_digit).collect());
    }
    let (mut value, mut chars) = (String::new(), rest[1..].chars());
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

// token_broker [--print] NAME [ETAG of a rejected token]
fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--print")
        .collect();
    let name = words.first().map(String::as_str).unwrap_or_default();
    match get_token(name, words.get(1).map(String::as_str)) {
        Ok(token) => {
            println!(
                "token_type={} expires_in={}",
                token.token_type, token.expires_in
            );
            if std::env::args().any(|word| word == "--print") {
                println!("{}", token.access_token);
            }
        }
        Err(error) => {
            eprintln!("token broker: {}{}", error.code, error.text);
            std::process::exit(1);
        }
    }
}
