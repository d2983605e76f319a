//! Writes JSON.

use std::fmt::{Display, Write};

/// A JSON text that grows. The caller writes a key before each value of an object.
#[derive(Default)]
pub(super) struct Json {
    text: String,
    needs_comma: bool,
}

impl Json {
    /// Returns the text of one value.
    pub(super) fn of(write: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::default();
        write(&mut json);
        json.text
    }

    pub(super) fn object(&mut self, write: impl FnOnce(&mut Json)) {
        self.enclose('{', write, '}');
    }

    /// Writes an array of the items.
    pub(super) fn array<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Json, T),
    ) {
        let write_all = |json: &mut Json| items.into_iter().for_each(|item| write(json, item));
        self.enclose('[', write_all, ']');
    }

    pub(super) fn key(&mut self, key: &str) -> &mut Json {
        self.string(key);
        self.text.push(':');
        self.needs_comma = false;
        self
    }

    pub(super) fn string(&mut self, value: &str) {
        self.separate();
        self.text.push('"');
        for char in value.chars() {
            match char {
                '"' | '\\' => self.text.extend(['\\', char]),
                // Writing to a string is infallible.
                '\0'..' ' | '\u{7f}' => drop(write!(self.text, "\\u{:04x}", u32::from(char))),
                _ => self.text.push(char),
            }
        }
        self.text.push('"');
    }

    /// Writes a text that may be missing.
    pub(super) fn optional(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.literal("null"),
        }
    }

    /// Writes a finite number, a truth value or `null`.
    pub(super) fn literal(&mut self, value: impl Display) {
        self.separate();
        let _ = write!(self.text, "{value}");
    }

    fn enclose(&mut self, open: char, write: impl FnOnce(&mut Json), close: char) {
        self.separate();
        self.text.push(open);
        self.needs_comma = false;
        write(self);
        self.text.push(close);
        self.needs_comma = true;
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.needs_comma, true) {
            self.text.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_separated_and_texts_are_escaped() {
        let text = Json::of(|json| {
            json.object(|json| {
                json.key("a \"name\"").optional(Some("tab\t\\ü\u{7f}"));
                json.key("none").optional(None);
                json.key("list").array([1, 2], |json, n| json.literal(n));
                json.key("empty").array([], |json, ()| json.literal(0));
                json.key("inner")
                    .object(|json| json.key("yes").literal(true));
            });
        });
        let expected = "{\"a \\\"name\\\"\":\"tab\\u0009\\\\ü\\u007f\",\"none\":null,\
                        \"list\":[1,2],\"empty\":[],\"inner\":{\"yes\":true}}";
        assert_eq!(text, expected);
    }
}
