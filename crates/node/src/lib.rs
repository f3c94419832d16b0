//! The shells: HTTP, agent protocol, clocks, keys.
