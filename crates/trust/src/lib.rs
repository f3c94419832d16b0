//! Pure: keys, signatures and Merkle commitments.
