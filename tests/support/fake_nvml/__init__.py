"""A stand-in for NVML in C, the power curves that it plays, and time that passes without
waiting."""
