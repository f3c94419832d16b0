//! Durable state and content-addressed blobs.
