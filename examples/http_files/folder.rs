//! Responses for the contents of a directory, which are files, ranges of files, and listings.
//! Serves nothing outside of the directory, neither through `..` nor through symbolic links.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::path::Path;

use windlass::fs::{self, File, Metadata, Root};

use super::{Body, Request, Response};

pub(crate) struct Folder {
    root: Root,
}

impl Folder {
    pub(crate) async fn open(path: &str) -> io::Result<Folder> {
        let root = Root::open(path).await?;
        Ok(Folder { root })
    }

    pub(crate) async fn answer(&self, request: &Request) -> Response {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Response::refusal("405 Method Not Allowed").with("Allow: GET, HEAD");
        }
        let Some(path) = decode(&request.target) else {
            return Response::refusal("400 Bad Request");
        };
        let found = self.find(&path, request).await;
        found.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                Response::refusal("404 Not Found")
            }
            ErrorKind::PermissionDenied => Response::refusal("403 Forbidden"),
            _ => {
                eprintln!("{}: {error}", request.target);
                Response::refusal("500 Internal Server Error")
            }
        })
    }

    async fn find(&self, path: &[u8], request: &Request) -> io::Result<Response> {
        let below = as_path(path)?;
        let (found, metadata) = self.open_file(below).await?;
        let is_root = below == Path::new("");
        match (metadata.is_dir(), is_root || path.ends_with(b"/")) {
            (false, false) => Ok(file(below, found, &metadata, request)),
            (false, true) => Err(ErrorKind::NotFound.into()),
            (true, false) => {
                let there = format!("Location: /{}/", encode(below.as_os_str()));
                Ok(Response::refusal("301 Moved Permanently").with(&there))
            }
            (true, true) => {
                let index = below.join("index.html");
                match self.open_file(&index).await {
                    Ok((found, metadata)) if metadata.is_file() => {
                        Ok(file(&index, found, &metadata, request))
                    }
                    _ => self.list(below).await,
                }
            }
        }
    }

    /// Opens a file or directory. A path outside of the directory is not found, and neither are
    /// pipes and devices.
    async fn open_file(&self, path: &Path) -> io::Result<(File, Metadata)> {
        let opened = self.root.open_file(or_dot(path)).await;
        let file = opened.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => ErrorKind::NotFound.into(),
            _ => error,
        })?;
        let metadata = file.metadata().await?;
        Ok((file, metadata))
    }

    /// Lists a directory as a page, with directories first, then files, by name.
    async fn list(&self, below: &Path) -> io::Result<Response> {
        let mut rows = Vec::new();
        let mut entries = fs::read_dir(self.root.path().join(below)).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            // Entries that lead elsewhere are not listed.
            let Ok(metadata) = self.root.metadata(below.join(&name)).await else {
                continue;
            };
            let (link, text) = (encode(&name), escape(&name.to_string_lossy()));
            let (slash, size) = match metadata {
                metadata if metadata.is_dir() => ("/", String::new()),
                metadata if metadata.is_file() => ("", human(metadata.len())),
                _ => continue,
            };
            let row = format!("<tr><td><a href=\"./{link}{slash}\">{text}{slash}</a><td>{size}\n");
            rows.push((slash.is_empty(), text.to_lowercase(), row));
        }
        if below != Path::new("") {
            let up = "<tr><td><a href=\"../\">..</a><td>\n".to_owned();
            rows.push((false, String::new(), up));
        }
        rows.sort();
        let rows: String = rows.into_iter().map(|(_, _, row)| row).collect();
        let title = escape(&format!("/{}", below.to_string_lossy()));
        // The rows are inserted last, so that their contents are not searched for placeholders.
        let page = PAGE.replace("{title}", &title).replace("{rows}", &rows);
        Ok(Response::new("200 OK", "text/html; charset=utf-8", page))
    }
}

/// An empty path is the root itself.
fn or_dot(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

#[cfg(unix)]
fn as_path(bytes: &[u8]) -> io::Result<&Path> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// File names are Unicode on other systems.
#[cfg(not(unix))]
fn as_path(bytes: &[u8]) -> io::Result<&Path> {
    let text = std::str::from_utf8(bytes).map_err(|_| ErrorKind::NotFound)?;
    Ok(Path::new(text))
}

/// Returns the path in a request's target, without its first slash, or `None` if it is malformed.
fn decode(target: &str) -> Option<Vec<u8>> {
    let path = target.split('?').next()?.strip_prefix('/')?;
    let mut decoded = Vec::new();
    let mut bytes = path.bytes();
    let digit = |byte| char::from(byte).to_digit(16);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8,
            byte => byte,
        });
    }
    (!decoded.contains(&0)).then_some(decoded)
}

fn encode(path: &OsStr) -> String {
    // URLs use `/` on Windows too.
    let slashed = |&byte| {
        if cfg!(windows) && byte == b'\\' {
            b'/'
        } else {
            byte
        }
    };
    path.as_encoded_bytes()
        .iter()
        .map(slashed)
        .fold(String::new(), |mut text, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                text.push(byte.into());
            } else {
                write!(text, "%{byte:02X}").expect("writing to a String succeeds");
            }
            text
        })
}

fn file(path: &Path, file: File, metadata: &Metadata, request: &Request) -> Response {
    let size = metadata.len();
    let range = request.range.as_deref().filter(|_| request.method == "GET");
    let part = range.and_then(|range| part(range, size));
    let (start, end) = part.unwrap_or((0, size));
    if part.is_some() && start >= end {
        let size = format!("Content-Range: bytes */{size}");
        return Response::refusal("416 Range Not Satisfiable").with(&size);
    }
    let response = Response {
        status: "200 OK",
        headers: format!(
            "Content-Type: {}\r\nAccept-Ranges: bytes\r\n",
            content_type(path)
        ),
        length: end - start,
        body: Body::File(file, start),
    };
    if part.is_none() {
        return response;
    }
    let response = response.with(&format!("Content-Range: bytes {start}-{}/{size}", end - 1));
    Response {
        status: "206 Partial Content",
        ..response
    }
}

/// Parses the start and end of a range, which may be outside of the file. Returns `None` for
/// anything but a single range, which is answered with the whole file.
fn part(range: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first <= last).then(|| (first, last.saturating_add(1).min(size))),
        (Ok(first), Err(_)) if last.is_empty() => Some((first, size)),
        (Err(_), Ok(length)) if first.is_empty() => Some((size.saturating_sub(length), size)),
        _ => None,
    }
}

fn content_type(path: &Path) -> &'static str {
    let suffix = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    match suffix.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" | "rs" | "toml" | "lock" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root { color-scheme: light dark }
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto }
  body { padding: 0 1rem }
  h1 { font-size: 1.25rem; overflow-wrap: anywhere }
  table { border-collapse: collapse; width: 100% }
  td { border-top: 1px solid #8884; padding: .3rem .25rem; overflow-wrap: anywhere }
  td + td { text-align: right; white-space: nowrap; opacity: .65 }
  a { text-decoration: none } a:hover { text-decoration: underline }
</style>
<h1>{title}</h1>
<table>
{rows}</table>
"#;

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('{', "&#123;")
}

fn human(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    let size = bytes as f64 / 1024_f64.powi(power as i32);
    let digits = usize::from(power > 0);
    format!("{size:.digits$} {}", units[power as usize])
}
