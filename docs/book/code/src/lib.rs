//! The programs, measurements and checks of the book *One Thread*.
//!
//! A chapter is a folder, with the program that the text shows, a variant with a bug, and the
//! measurement. `docs/book/WRITING.md` describes how to add one.

pub mod chapter;

pub mod ch01;
pub mod ch02;
pub mod ch03;
pub mod ch04;
pub mod ch05;
pub mod ch06;
pub mod ch07;
pub mod ch08;
pub mod ch09;
pub mod ch10;
pub mod ch11;
pub mod ch12;
pub mod ch13;

pub mod chart;
pub mod figures;
pub mod labels;
pub mod load;
pub mod machine;
pub mod measure;
pub mod page;
pub mod pages;
pub mod server;
pub mod transcript;
pub mod translation;

use std::path::PathBuf;

use chapter::Chapter;

/// The chapters that exist, in the order of the book.
pub const CHAPTERS: &[Chapter] = &[
    // A line per chapter, so that branches merge.
    ch01::CHAPTER,
    ch02::CHAPTER,
    ch03::CHAPTER,
    ch04::CHAPTER,
    ch05::CHAPTER,
    ch06::CHAPTER,
    ch07::CHAPTER,
    ch08::CHAPTER,
    ch09::CHAPTER,
    ch10::CHAPTER,
    ch11::CHAPTER,
    ch12::CHAPTER,
    ch13::CHAPTER,
];

/// Returns the folder `docs/book` of the repository that this program was built from.
pub fn book() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Marks a hole in an exercise. It panics until a reader replaces it.
pub fn hole(task: &str) -> ! {
    panic!("a hole is left: {task}")
}
