"""Where and how a run computes: device, memory, processes, and what it leaves behind to go on from."""
