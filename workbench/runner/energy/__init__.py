"""Energy: meters, what each call took of what they read, and estimates for what cannot be metered.

`meters` reads devices, `baseline` says what they draw when idle, `lag` how late their counters are,
`apportion` shares what is above idle among the calls, `watch` does that while a run is under way,
`account` keeps the books, `estimate` stands in for remote services.
"""
