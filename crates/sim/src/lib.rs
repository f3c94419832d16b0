//! Pure: coordinator, agents, network and faults in virtual time.
