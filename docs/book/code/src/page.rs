//! The reader's report is one page with all figures and pictures.

use std::fmt::Write;

use crate::{chapter::Chapter, chart, figures::Figures, machine};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;\
    padding:0 1em;color:#1f2328;background:#fff}table{border-collapse:collapse;width:100%}\
    td,th{padding:.25em .6em;text-align:right;border-bottom:1px solid #8885}\
    td:first-child,th:first-child{text-align:left}div{overflow-x:auto}\
    @media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181d}}";

/// Writes the page for the chapters that were measured.
pub fn report(measured: &[(&Chapter, Figures, Figures)]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>One Thread: your figures</title>\
         <style>{STYLE}{}</style>\n<h1>One Thread: your figures</h1>\n<p>{}</p>\n",
        chart::STYLE,
        escape(&machine::describe()),
    );
    for (chapter, yours, ours) in measured {
        write!(
            page,
            "<h2>{}. {}</h2>\n<div>{}</div>\n",
            chapter.number,
            chapter.title,
            (chapter.picture)(yours, ours)
        )
        .unwrap();
        page.push_str("<div><table><tr><th><th>yours<th>spread<th>ours\n");
        for figure in &yours.list {
            let ours = ours
                .value(&figure.key)
                .map(|value| figure.unit.format(value));
            writeln!(
                page,
                "<tr><td>{}<td>{}<td>± {:.0} %<td>{}",
                escape(&figure.label),
                figure.unit.format(figure.sample.median),
                figure.sample.spread * 100.0,
                ours.unwrap_or_default()
            )
            .unwrap();
        }
        page.push_str("</table></div>\n");
        for why in &yours.missing {
            writeln!(page, "<p>Not measured here: {}</p>", escape(why)).unwrap();
        }
        writeln!(page, "<p>ours: {}</p>", escape(&ours.machine)).unwrap();
    }
    page + "</html>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
