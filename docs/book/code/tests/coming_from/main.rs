//! The code of the appendices, with a file per page.

mod asyncio;
mod go;
mod node;
mod tokio;
