"""Energy: meters, what each call took of what they read, and estimates for what cannot be metered.

`meters` reads devices, `baseline` says what they draw when idle, `apportion` shares what is above it
among the calls, `watch` does that while a run is under way, `estimate` stands in for remote services.
"""
