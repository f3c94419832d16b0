//! Pure: the control plane of a pool as one state machine.
