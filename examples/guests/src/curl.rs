//! The reverse: windlass has the loop, and libcurl is a guest in it.
