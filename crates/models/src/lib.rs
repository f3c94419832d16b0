//! Fetching and converting models into workloads.
