//! Pure: versioned protobuf messages, canonical bytes, and their conversion to and from the model.
