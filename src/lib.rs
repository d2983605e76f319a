//! windlass: a single-threaded async runtime made to be embedded.
