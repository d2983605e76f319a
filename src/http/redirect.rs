//! Redirects (RFC 9110, section 15.4).

use ::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
};
use ::http::{Method, Response, StatusCode, Uri, request};

use super::connector::has_valid_port;
use super::error::{Error, ErrorKind};

/// The headers that describe the body of a request.
const OF_BODY: [HeaderName; 6] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_TYPE,
    TRANSFER_ENCODING,
];

/// The headers that must not reach another origin.
const SECRET: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// Why a client refuses an `http` URI.
pub(super) const HTTPS_ONLY: &str = "the client is limited to https by `https_only`";

const NO_URI: &str = "it is not a valid URI";

/// Returns the target of a redirect. `None` if the response is none, or has no `Location`.
pub(super) fn target<B>(
    response: &Response<B>,
    from: &Uri,
    https_only: bool,
) -> Result<Option<Uri>, Error> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else {
        return Ok(None);
    };
    let to = resolve(from, location)?;
    // Not an error of the request, which was sent.
    if https_only && to.scheme_str() == Some("http") {
        let text = format!("can't follow the redirect to {to}: {HTTPS_ONLY}");
        return Err(Error::new(ErrorKind::Redirect, text));
    }
    Ok(Some(to))
}

/// Changes the head of a request for the next one. Returns whether the request loses its body.
pub(super) fn follow(status: StatusCode, to: &Uri, head: &mut request::Parts) -> bool {
    let is_get = match status {
        StatusCode::SEE_OTHER => head.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => head.method == Method::POST,
        _ => false,
    };
    if is_get {
        head.method = Method::GET;
        for name in OF_BODY {
            head.headers.remove(name);
        }
    }
    head.headers.remove(HOST);
    if origin(&head.uri) != origin(to) {
        for name in SECRET {
            head.headers.remove(name);
        }
    }
    head.uri = to.clone();
    is_get
}

/// The scheme, host and port of a URI.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let scheme = uri.scheme_str();
    let default = scheme.map(|scheme| if scheme == "https" { 443 } else { 80 });
    let host = uri.host().map(str::to_ascii_lowercase);
    (scheme, host, uri.port_u16().or(default))
}

/// Resolves a reference (RFC 3986, section 5.2).
fn resolve(base: &Uri, location: &HeaderValue) -> Result<Uri, Error> {
    let text = percent_encode(location.as_bytes());
    let reference = text.split('#').next().unwrap_or_default();
    let invalid = |reason: &str| {
        let text = format!("can't follow the redirect to {text:?}: {reason}");
        Error::new(ErrorKind::Redirect, text)
    };

    let absolute = match split_scheme(reference) {
        None => join(base, reference),
        Some((scheme, rest)) => {
            let scheme = scheme.to_ascii_lowercase();
            if !rest.starts_with("//") || !["http", "https"].contains(&scheme.as_str()) {
                return Err(invalid("it is not an absolute HTTP URI"));
            }
            format!("{scheme}:{rest}")
        }
    };
    let uri: Uri = absolute
        .parse()
        .map_err(|error| invalid(NO_URI).because(error))?;
    let Some(authority) = uri.authority() else {
        return Err(invalid("it has no host"));
    };
    if authority.as_str().contains('@') {
        // RFC 9110, section 4.2.4: a likely attempt to hide the host.
        return Err(invalid("it has a user name"));
    }
    if !has_valid_port(&uri) {
        return Err(invalid("its port is larger than 65535"));
    }
    let path = without_dots(uri.path());
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let mut parts = uri.into_parts();
    let path_and_query = format!("{path}{query}").parse();
    parts.path_and_query = Some(path_and_query.map_err(|error| invalid(NO_URI).because(error))?);
    Uri::from_parts(parts).map_err(|error| invalid(NO_URI).because(error))
}

/// Joins the base and a reference without a scheme.
fn join(base: &Uri, reference: &str) -> String {
    let scheme = base.scheme_str().unwrap_or_default();
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let root = format!("{scheme}://{authority}");
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}");
    }
    if reference.starts_with('/') {
        return format!("{root}{reference}");
    }
    if reference.is_empty() {
        return base.to_string();
    }
    if reference.starts_with('?') {
        return format!("{root}{}{reference}", base.path());
    }
    let folder = base.path().rsplit_once('/').map_or("", |split| split.0);
    format!("{root}{folder}/{reference}")
}

/// Splits `scheme:rest`.
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some((scheme, rest))
}

/// Removes the segments `.` and `..` of a path (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let mut clean: String = kept.iter().flat_map(|segment| ["/", segment]).collect();
    if clean.is_empty() || path.ends_with("/.") || path.ends_with("/..") {
        clean.push('/');
    }
    clean
}

/// Encodes the bytes that servers put into `Location` and that URIs don't have, as browsers do.
fn percent_encode(location: &[u8]) -> String {
    let mut text = String::with_capacity(location.len());
    for &byte in location {
        match byte {
            b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | ..=b' ' | 0x7f.. => {
                text.push_str(&format!("%{byte:02X}"));
            }
            _ => text.push(byte.into()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &'static str, location: &'static str, expected: &str) {
        let base = Uri::from_static(base);
        let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        let resolved = resolve(&base, &location).map(|uri| uri.to_string());
        assert_eq!(resolved.unwrap_or_else(|error| error.to_string()), expected);
    }

    #[test]
    fn references_resolve_as_in_the_rfc() {
        // RFC 3986, section 5.4, with a path in the place of `;p`.
        let base = "http://a/b/c/d;p?q";
        for (location, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g/../h", "http://a/b/c/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://other:8443/x?y", "https://other:8443/x?y"),
            ("HTTPS://other", "https://other/"),
            ("/a b/ä", "http://a/a%20b/%C3%A4"),
        ] {
            check(base, location, expected);
        }
    }

    #[test]
    fn https_only_forbids_targets_of_http() {
        let base = Uri::from_static("https://a/");
        for (location, is_allowed) in [("http://a/", false), ("https://b/", true), ("/c", true)] {
            let response = Response::builder().status(302).header(LOCATION, location);
            let found = target(&response.body(()).unwrap(), &base, true);
            let kind = found.map(|_| ()).map_err(|error| error.kind());
            let expected = if is_allowed {
                Ok(())
            } else {
                Err(ErrorKind::Redirect)
            };
            assert_eq!(kind, expected, "{location}");
        }
    }

    #[test]
    fn unusable_targets_are_errors() {
        for (location, reason) in [
            ("mailto:a@b", "it is not an absolute HTTP URI"),
            ("https:/a", "it is not an absolute HTTP URI"),
            ("http://good@bad/", "it has a user name"),
            ("http://a:65536/", "its port is larger than 65535"),
            ("http://a b/", "it is not a valid URI: invalid authority"),
        ] {
            let location_text = percent_encode(location.as_bytes());
            let expected = format!("can't follow the redirect to {location_text:?}: {reason}");
            check("http://a/", location, &expected);
        }
    }
}
