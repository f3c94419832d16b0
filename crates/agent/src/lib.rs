//! Pure: a contributor's device as one state machine.
